"""What the command `look` has found of files, as plain data, for a terminal, and as the section `input` of a recipe."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import yaml
from rich.console import Group, RenderableType
from rich.text import Text

from xner_ray.report.shown import plain
from xner_ray.report.tables import sentence

_INDENT = 12


@dataclass(frozen=True)
class Rejected:
    """Bad rows of one reason: how many of those looked at, where the first are and what is wrong, what to do."""

    reason: str
    rows: int
    examples: list[str]
    cure: str


@dataclass
class Look:
    """What is in the files of one path. Counts are of the rows looked at, which are all of them where it is `exact`."""

    path: str | dict[str, str]
    lang: str
    lang_note: str = ""  # why this language
    refused: str = ""  # the message, where the files cannot be read in one way
    choices: dict[str, str] = field(default_factory=dict)  # key of a recipe -> what it would read
    head: list[str] = field(default_factory=list)  # the first lines of what is refused
    format: str = ""
    files: int = 0
    total_bytes: int = 0
    looked_at: int = 0  # rows
    exact: bool = False
    rows: int | None = None  # of all files, estimated unless `exact`; None: unknown
    words: int = 0
    labelled: int = 0  # rows
    unlabelled: str = ""  # what the files hold where they have no labels
    labels: dict[str, int] = field(default_factory=dict)  # label -> its entities
    splits: dict[str, int] = field(default_factory=dict)  # split -> its rows
    said: list[str] = field(default_factory=list)  # how the files are read
    ids: list[str] = field(default_factory=list)  # the first
    own_ids: float = 0.0  # the share of rows with an id of the user's
    repeated_ids: int = 0
    documents: list[str] = field(default_factory=list)  # the first ids
    scripts: dict[str, float] = field(default_factory=dict)  # the share of letters
    languages: list[str] = field(default_factory=list)  # that fit the text
    more_languages: int = 0
    languages_by: str = ""
    rejects: list[Rejected] = field(default_factory=list)
    sentences: list[dict[str, Any]] = field(default_factory=list)  # id, tokens, spans of word indices
    input: dict[str, Any] | None = None  # the section of a recipe

    def clean(self) -> None:
        """Replace what cannot be shown in all texts: control characters, halves of surrogate pairs."""
        for name, value in vars(self).items():
            setattr(self, name, printable(value))

    def section(self) -> str:
        """Return the section `input` of a recipe in YAML, with comments where a value is not certain."""
        if self.input is None:
            return ""
        lines = ["input:"]
        for key, value in self.input.items():
            text = yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=1000).rstrip()
            lines += [f"  {line}" for line in text.split("\n")]
            if key == "lang" and self.lang_note:
                lines[-1] += f"  # {self.lang_note}"
        if self.labels:
            keep = yaml.safe_dump(
                {"keep": list(self.labels)}, default_flow_style=True, allow_unicode=True, width=10_000
            )
            lines.append(
                f"  # labels: {keep.strip()}  # all of them, as when left out; rename: {{OLD: NEW}} comes first"
            )
        if self.refused:
            lines.append("  # the key that the message above names goes here")
        return "\n".join(lines) + "\n"

    def __rich__(self) -> Group:
        shown = self.path if isinstance(self.path, str) else ", ".join(self.path.values())
        parts: list[RenderableType] = [Text(shown, "bold")]
        if self.refused:
            parts.append(Text(self.refused, "bold red"))
            parts += [_line(key, what) for key, what in self.choices.items()]
            parts += [Text("first lines:", "dim")] if self.head else []
            parts += [Text(f"  {line}") for line in self.head]
        if self.files:
            parts += [_line(name, text) for name, text in self._lines() if text]
        if self.sentences:
            parts.append(Text())
        for one in self.sentences:
            parts.append(Text(f"{one['id']}  ", "dim") + sentence(one["tokens"], one["spans"], list(self.labels)))
        for bad in self.rejects:
            parts.append(Text(f"\n{bad.rows:,} of {self.looked_at:,} rows will be rejected: {bad.reason}", "red"))
            parts += [Text(f"  {example}") for example in bad.examples]
            parts += [Text(f"  cure: {bad.cure}")] if bad.cure else []
        if self.input is not None:
            parts += [Text("\nfor the recipe:", "dim")]
            parts.append(Text(self.section(), no_wrap=True, overflow="ignore"))
        return Group(*parts)

    def _lines(self) -> list[tuple[str, str]]:
        some = self.rows is not None and not self.exact
        files = f"{self.files:,} file{'s' if self.files != 1 else ''}, {_size(self.total_bytes)}"
        if self.exact:
            rows = f"{self.looked_at:,} sentences, {self.words:,} words"
        elif some:
            rows = f"looked at {self.looked_at:,} of some {_round(self.rows or 0):,} rows"
        else:
            rows = f"looked at the first {self.looked_at:,} rows"
        labels = ", ".join(f"{label} {count:,}" for label, count in self.labels.items())
        if not self.labelled:
            labels = "none" + (f": {self.unlabelled}" if self.unlabelled else "")
        elif self.labelled < self.looked_at:
            labels = (
                f"{labels or 'none'}; {self.looked_at - self.labelled:,} of {self.looked_at:,} rows are not labelled"
            )
        ids = f"{', '.join(self.ids)}, ..." + ("" if self.own_ids else " (file and line: they have none of their own)")
        ids += f"; {self.repeated_ids} repeated" if self.repeated_ids else ""
        scripts = ", ".join(f"{script} {share:.1%}" for script, share in self.scripts.items() if share >= 0.001)
        script = next(iter(self.scripts), "")
        languages = ", ".join(self.languages)
        if self.more_languages:
            n_languages = len(self.languages) + self.more_languages
            languages = f"{n_languages} are written so: xner-ray languages --search {script}"
        elif languages:
            languages += f" (by {self.languages_by})"
        return [
            ("format", f"{self.format}; {files}"),
            ("rows", rows if self.looked_at else ""),
            ("read as", "; ".join(self.said)),
            ("labels", (labels or "none occurs") if self.looked_at else ""),
            ("splits", ", ".join(f"{split} {count:,}" for split, count in self.splits.items())),
            ("ids", ids if self.ids else ""),
            ("documents", ", ".join(self.documents) + ", ..." if self.documents else ""),
            ("scripts", scripts),
            ("languages", languages),
        ]


@dataclass
class Looked:
    """What is in several paths. As JSON: `to_dict`; for a terminal: print it with rich."""

    looks: list[Look]

    @property
    def refused(self) -> bool:
        return any(look.refused for look in self.looks)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return plain data, a mapping a path."""
        return [{**asdict(look), "section": look.section()} for look in self.looks]

    def __rich__(self) -> Group:
        return Group(*self.looks)


def printable(value: Any) -> Any:
    """Return a text, or a value with texts in it, with U+FFFD for what a terminal would obey or could not show.

    >>> printable(["a\\x1b[1m\\tb", {"\\ud83d": 1}])
    ['a\ufffd[1m\\tb', {'\ufffd': 1}]
    """
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, Rejected):
        return replace(value, examples=printable(value.examples))
    if isinstance(value, dict):
        return {printable(key): printable(one) for key, one in value.items()}
    return [printable(one) for one in value] if isinstance(value, list) else value


def _line(name: str, text: str) -> Text:
    return Text(f"{name:<{_INDENT - 2}}  ", "dim") + Text(text, "")


def _size(n_bytes: int) -> str:
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if n_bytes >= 1024**power:
            return f"{n_bytes / 1024**power:.1f} {unit}"
    return f"{n_bytes} bytes"


def _round(rows: float) -> int:
    """Return a number to two digits.

    >>> _round(2_984_113)
    3000000
    """
    unit: int = 10 ** max(0, len(str(int(rows))) - 2)
    return round(rows / unit) * unit
