"""Labels and tags of objects as a whole file has them: numbers with names, tags in the place of labels, spellings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from xner_ray.data.kinds import Scheme
from xner_ray.data.spans import Span, tags_to_spans
from xner_ray.data.tag_styles import TagStyle, problem_of, tags_of
from xner_ray.errors import InputError

_TAG = re.compile(r"([BIESLU])[-_](\S.*)")


def named(names: Sequence[str] | None, highest: int, what: str, path: str, said: list[str]) -> Sequence[str] | None:
    """Return the stated names of numbers; InputError if there are fewer than numbers."""
    if names is None:
        return None
    if highest >= len(names):
        raise InputError(f"{path}: input.labels.names has {len(names)} names, and {what} go up to {highest}")
    said.append(f"{what} are numbers, named by input.labels.names")
    return names


def style_of(counts: Mapping[str, int], scheme: Scheme | None, where: str, said: list[str]) -> TagStyle:
    """Return how tags are spelled. where: file and key. InputError if a stated scheme is not theirs."""
    tags = tags_of(counts, scheme, ordered=True)
    if tags is None and scheme is not None:
        shown = ", ".join(sorted(counts, key=lambda tag: (-counts[tag], tag))[:5])
        raise InputError(f"{where}: input.scheme is {scheme}, but its tags are {shown}; leave input.scheme out")
    if tags is None:
        return TagStyle()
    if tags.unnamed:
        raise InputError(f"{where}: {tags.unnamed}")
    if problem := problem_of(tags, scheme):
        raise InputError(f"{where}: input.scheme is {scheme}, but {problem}; leave input.scheme out, or correct it")
    if tags.style != TagStyle():
        said.append(f"scheme {tags.style.scheme.upper()}")
    return tags.style


def are_tags(labels: set[str]) -> bool:
    """Return whether labels of spans are tags: all have a prefix, and B- is one.

    >>> are_tags({"B-PER", "I-PER"}), are_tags({"PER", "E-mail"})
    (True, False)
    """
    found = [_TAG.fullmatch(label) for label in labels if label != "O"]
    return bool(found) and all(found) and any(match is not None and match[1] == "B" for match in found)


def joined(spans: Sequence[tuple[int, int, str]], text: str) -> list[tuple[int, int, str]]:
    """Join character spans whose labels are tags into entities; ValueError for a label that is none.

    An I- goes on with the span before it where only white space or a hyphen stands between them.

    >>> joined([(0, 4, "B-PER"), (5, 9, "I-PER")], "Nora Falk")
    [(0, 9, 'PER')]
    """
    made: list[tuple[int, int, str]] = []
    run: list[tuple[int, int, str]] = []

    def close() -> None:
        found, _ = tags_to_spans([tag for _, _, tag in run])
        made.extend((run[one.start][0], run[one.end - 1][1], one.label) for one in found)
        run.clear()

    for start, end, label in sorted(spans):
        if label == "O":
            continue
        match = _TAG.fullmatch(label)
        if match is None:
            raise ValueError(f"the label {label!r} is no tag, as the others of the file are (B-, I-)")
        if run and text[run[-1][1] : start].strip(" \t\r\n\u00a0-"):
            close()
        run.append((start, end, f"{match[1]}-{match[2]}"))
    close()
    return made


def joined_words(spans: Sequence[Span]) -> list[Span]:
    """Join spans of words whose labels are tags into entities; ValueError for a label that is none."""
    size = max((span.end for span in spans), default=0)
    return [
        Span(start, end, label) for start, end, label in joined([(s.start, s.end, s.label) for s in spans], "x" * size)
    ]
