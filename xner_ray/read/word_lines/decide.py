"""The one reading that fits what the sentences of a file show, or the message that asks which one is meant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xner_ray.data.tag_styles import Tags, TagStyle, problem_of, tags_of
from xner_ray.errors import InputError
from xner_ray.read.record import File, Reading
from xner_ray.read.word_lines.breaks import MARK, ends
from xner_ray.read.word_lines.cells import WORDS
from xner_ray.read.word_lines.evidence import Column, Sentences, Shape

_MAIN_LEVELS = ("ne-coarse-lit", "ner", "ner_tags", "ner_tag", "ner-tags", "ner-tag")  # beside further levels
_LONG = 200  # words; few sentences are longer
_MANY_ENDS = 3


@dataclass
class _Found:
    """How the sentences of one width are read; tags: what its column of tags shows, None if it has none."""

    reading: Reading
    said: list[str]
    tags: Tags | None = None


def decide(found: Sentences, file: File) -> tuple[Reading, list[str]]:
    """Return the reading of a file and what is said of it. InputError if several fit, or none."""
    if found.more:
        raise InputError(f"{file.path}: is no {file.format}: its sentences have more than 64 different widths")
    base = replace(Reading(), header=found.header is not None, cut=file.sentences)
    if not found.shapes:
        return base, []
    main = max(found.shapes.values(), key=lambda shape: (shape.sentences, len(shape.columns)))
    _refuse_whole(found, main, file)
    base = replace(base, mark=_mark(main))
    made = _read(main, base, found.header, file)
    said = list(made.said)
    width = len(main.columns)
    others = {other: shape for other, shape in found.shapes.items() if other != width}
    plain = made.reading.tokens == 0 and made.reading.tags == width - 1 and width > 1 and not made.reading.prefix
    if (plain and all(_alike(shape, made, base, file) for shape in others.values())) or (width == 1 and not others):
        made.reading = replace(made.reading, width=None, tags=-1)
    elif others:
        same = [other for other, shape in sorted(others.items()) if _same_columns(shape, made, base, file)]
        if same and all(other in same or other <= (made.reading.tags or 0) for other in others):
            made.reading = replace(made.reading, width=None)
            counts = ", ".join(f"{others.pop(other).sentences} of {other}" for other in same)
            said.append(f"{main.sentences} sentences of {_columns(width)}, and {counts} with the same ones")
        counts = ", ".join(f"{shape.sentences} of {other}" for other, shape in sorted(others.items()))
        said += [f"{main.sentences} sentences of {_columns(width)}; rejected: {counts}"] if others else []
    if made.reading.header:
        said.append("line 1 names the columns")
    if made.reading.mark:
        said.append(f"sentences end at {MARK} in column {width}")
    if made.reading.cut:
        said.append(f"{found.cut} sentences cut at final punctuation")
    return made.reading, said


def _columns(count: int) -> str:
    return f"{count} column{'s' if count != 1 else ''}"


def _mark(main: Shape) -> str:
    last = main.columns[-1]
    return MARK if any(MARK in value.split("|") for value in last.values) else ""


def _alike(shape: Shape, made: _Found, base: Reading, file: File) -> bool:
    """Return whether sentences of another width are read rightly by their first and last columns too."""
    try:
        other = _read(shape, base, None, file)
    except InputError:
        return False
    last = other.reading.tags == len(shape.columns) - 1 and other.reading.tokens == 0
    return last and (other.reading.style, other.reading.prefix) == (made.reading.style, made.reading.prefix)


def _same_columns(shape: Shape, made: _Found, base: Reading, file: File) -> bool:
    """Return whether sentences of another width are read rightly by the same columns, counted from the first."""
    try:
        other = _read(shape, base, None, file).reading
    except InputError:
        return False
    keys = ("tokens", "tags", "number", "prefix", "names")
    if (
        made.reading.tags is None
        or len(shape.columns) <= made.reading.tags
        or any(getattr(other, key) != getattr(made.reading, key) for key in keys)
    ):
        return False
    tags = _tags(shape.columns[made.reading.tags], file, stated=True)
    return other.style == made.reading.style or (tags is not None and not tags.labels)


def _refuse_whole(found: Sentences, main: Shape, file: File) -> None:
    """InputError if a file has no blank lines though it holds several sentences, or is cut though it has them."""
    total = sum(shape.sentences for shape in found.shapes.values()) + found.uneven
    if file.sentences:
        if total > 1 and found.cut * 2 < total:
            problem = (
                f"{total - found.cut} of {total} sentences end at a blank line: {file.format} in sentences already"
            )
            raise InputError(f"{file.path}: {problem}; leave input.split out")
        return
    if total > 1 or _mark(main):
        return
    finals = max(sum(count for value, count in column.values.items() if ends(value)) for column in main.columns)
    if main.lines > _LONG or finals >= _MANY_ENDS:
        raise InputError(
            f"{file.path}: no blank line in {main.lines} lines, so that all are one sentence; set "
            "input.split: sentences, which cuts at final punctuation, or part the sentences by blank lines"
        )


def _read(shape: Shape, base: Reading, header: Sequence[str] | None, file: File) -> _Found:
    """Return how the sentences of one width are read."""
    width = len(shape.columns)
    names = list(header) if header is not None and len(header) == width else None
    kinds = [_tags(column, file, stated=False) for column in shape.columns]
    words = _stated("tokens", names, width, file)
    tags_at = _stated("tags", names, width, file)
    number = _number(shape, words, tags_at, kinds)
    if words is None:
        words = _words(shape, names, number, tags_at, kinds)
    if words == tags_at:
        raise InputError(f"{file.path}: input.columns: column {words + 1} cannot be both tokens and tags")
    integers = file.stated.names
    said: list[str] = []
    if tags_at is None:
        tags_at, left = _choose(shape, kinds, words, number, names, file)
        said += left
    made = None if tags_at is None else _tags(shape.columns[tags_at], file, stated=True)
    if tags_at is not None and integers is None:
        _check(made, tags_at, shape, names, file)
    prefix = _prefix(shape, words, file)
    style = TagStyle() if made is None or tags_at is None else _style(made, shape.columns[tags_at], file)
    reading = replace(
        base, width=width, tokens=words, tags=tags_at, number=number, prefix=prefix, style=style, names=integers
    )
    return _Found(reading, [*_said(reading, made, names, width), *said], made)


def _tags(column: Column, file: File, *, stated: bool) -> Tags | None:
    if column.many:
        return None
    return tags_of(column.values, file.stated.scheme if stated else None, ordered=stated)


def _stated(key: str, names: Sequence[str] | None, width: int, file: File) -> int | None:
    """Return the place of a column that the recipe names, from 0; InputError if there is none."""
    name = file.columns.stated(key)
    if name is None:
        return None
    if names is not None and name in names:
        return names.index(name)
    if name.isdecimal() and 1 <= int(name) <= width:
        return int(name) - 1
    allowed = f"1 to {width}" + (f", or {', '.join(names)}" if names else " (line 1 names no columns)")
    allowed += f"; name one of them, or leave input.columns.{key} out"
    raise InputError(f"{file.path}: input.columns.{key} is {name!r}, but its lines have {_columns(width)}: {allowed}")


def _number(shape: Shape, words: int | None, tags: int | None, kinds: Sequence[Tags | None]) -> int | None:
    """Return the column that counts the words of every sentence; of two columns, the words may be numbers."""
    width = len(shape.columns)
    for place in range(width - 1):
        if shape.numbered(place) and place not in (words, tags) and (width > 2 or kinds[1] is None):
            return place
    return None


def _words(
    shape: Shape, names: Sequence[str] | None, number: int | None, tags: int | None, kinds: Sequence[Tags | None]
) -> int:
    """Return the first column that can hold words."""
    lower = [name.lower() for name in names or ()]
    for name in WORDS:
        if name in lower:
            return lower.index(name)
    for place in range(len(shape.columns)):
        tagged = (kind := kinds[place]) is not None and kind.sure
        if place not in (number, tags) and not tagged and not shape.constant(place):
            return place
    return 0 if tags != 0 else len(shape.columns) - 1


def _choose(
    shape: Shape,
    kinds: Sequence[Tags | None],
    words: int,
    number: int | None,
    names: Sequence[str] | None,
    file: File,
) -> tuple[int | None, list[str]]:
    """Return the column of tags, and what is said of those left out. InputError if several hold entities, or none."""
    if file.stated.names is not None:
        return _integers(shape, words, number, file), []
    places = [place for place in range(len(shape.columns)) if place not in (words, number)]
    tagged = {place: kind for place in places if (kind := kinds[place]) is not None}
    full = [place for place, kind in tagged.items() if kind.labels and not kind.chunks]
    sure = [place for place in full if tagged[place].sure]  # a column of lemmas or of notes may look like labels
    distinct = [place for place in sure or full if not any((one, place) in shape.equal for one in full)]
    if len(distinct) > 1 and names:
        main = [place for place in distinct if names[place].lower() in _MAIN_LEVELS]
        if len(main) == 1:
            left = ", ".join(names[place] for place in distinct if place not in main)
            return main[0], [f"not read: {left}"]
    if len(distinct) > 1:
        _refuse_several(distinct, kinds, words, names, file)
    if distinct:
        chosen = distinct[0]
        unsure = [place for place in full if place not in sure and (place, chosen) not in shape.equal] if sure else []
        notes = [
            f"not read: column {place + 1}, which may hold labels too ({_values(shape.columns[place])})"
            for place in unsure
        ]
        empty = [place for place, kind in tagged.items() if not kind.labels and kind.style.outside == "O"]
        return chosen, [*notes, *(f"column {place + 1} holds no entity" for place in empty)]
    for wanted in (
        [place for place, kind in tagged.items() if not kind.labels and kind.style.outside == "O"],
        [place for place, kind in tagged.items() if kind.labels],
        [place for place, kind in tagged.items() if kind.style.outside in "o0" and place == places[-1]],
    ):
        if wanted:
            return wanted[-1], []
    if not places:
        return None, []
    shown = "; ".join(f"column {place + 1}: {_values(shape.columns[place])}" for place in places)
    hint = _hint(shape, len(shape.columns))
    raise InputError(f"{file.path}: no column holds tags of entities ({shown}); {hint}")


def _hint(shape: Shape, width: int) -> str:
    values = [value for column in shape.columns for value in column.values]
    if any(value.startswith("(") and value.endswith(("*", "*)")) for value in values):
        return "if it is CoNLL-2012, set input.format: conll2012"
    if width == 10 and any("=" in value for value in shape.columns[-1].values):
        return "if it is CoNLL-U with entities in MISC, set input.format: conllu"
    numbers = [column for column in shape.columns if column.values and all(map(str.isdecimal, column.values))]
    if numbers:
        return "if tags are numbers, name them: input.labels.names: [O, B-PER, I-PER]"
    return f"name it, as in input.columns: {{tokens: 1, tags: {width}}}, and how it is written: input.scheme"


def _values(column: Column) -> str:
    if column.many:
        return "too many values for tags"
    shown = sorted(column.values, key=lambda value: (-column.values[value], value))[:4]
    return ", ".join(shown) + (", ..." if len(column.values) > 4 else "")


def _integers(shape: Shape, words: int, number: int | None, file: File) -> int:
    """Return the last column that holds whole numbers alone, which input.labels.names names."""
    for place in reversed(range(len(shape.columns))):
        column = shape.columns[place]
        if place not in (words, number) and column.values and all(map(str.isdecimal, column.values)):
            return place
    raise InputError(
        f"{file.path}: input.labels.names is for tags that are numbers, and no column holds numbers; leave it out"
    )


def _refuse_several(
    places: Sequence[int], kinds: Sequence[Tags | None], words: int, names: Sequence[str] | None, file: File
) -> None:
    shown = []
    for place in places:
        labels = kinds[place].labels if kinds[place] is not None else Counter()  # type: ignore[union-attr]
        most = ", ".join(f"{label} {count}" for label, count in sorted(labels.items(), key=lambda x: (-x[1], x[0]))[:4])
        shown.append(f"column {place + 1}{f' ({names[place]})' if names else ''}: {most}")
    raise InputError(
        f"{file.path}: several columns hold tags of entities ({'; '.join(shown)}); say which one is meant: "
        f"input.columns: {{tokens: {words + 1}, tags: {places[0] + 1}}}"
    )


def _check(made: Tags | None, place: int, shape: Shape, names: Sequence[str] | None, file: File) -> None:
    """InputError if the column of tags cannot be read in one way."""
    where = f"column {place + 1}" + (f" ({names[place]})" if names else "")
    scheme = file.stated.scheme
    if made is None:
        if (plain := tags_of(shape.columns[place].values)) is not None and scheme is not None:
            problem = problem_of(plain, scheme) or "the tags are written otherwise"
            raise InputError(f"{file.path}: input.scheme: {scheme} does not fit {where}: {problem}; leave it out")
        shown = _values(shape.columns[place])
        raise InputError(f"{file.path}: {where} holds no tags of entities: {shown}; name another in input.columns.tags")
    if problem := problem_of(made, scheme):
        raise InputError(f"{file.path}: input.scheme: {scheme} does not fit {where}: {problem}; leave it out")
    if unnamed := made.unnamed:
        cure = r"sed -E 's/([[:blank:]])([BIESLU])$/\1\2-ENTITY/' FILE > NEW does where they end the lines"
        raise InputError(f"{file.path}: {where}: {unnamed}, which {cure}")
    if made.double:
        raise InputError(
            f"{file.path}: {where} holds words with two tags, as {made.double[0]}; write each level into a column of "
            "its own and name one, as in input.columns: {tokens: 1, tags: 2}"
        )
    if made.mixed and scheme is None:
        own, odd = made.labels.total(), made.wrong.most_common(1)[0][0]
        prefixed, bare = (own, made.other) if made.letters else (made.other, own)
        scheme = "iob2" if made.letters else "io"
        raise InputError(
            f"{file.path}: {where} writes tags in two ways: {prefixed} with a prefix, {bare} without, as {odd}; mend "
            f"the file, or set input.scheme: {scheme}, which rejects the sentences with the others"
        )


def _style(made: Tags, column: Column, file: File) -> TagStyle:
    """Return the style of tags; where no B- opens an entity behind an O, it is IOB1."""
    style = made.style
    free = file.stated.scheme is None and style.scheme in ("any", "iob2")
    if free and {letter.upper() for letter in made.letters} <= set("BI") and column.seen and not column.opened:
        return replace(style, scheme="iob1")
    return style


def _prefix(shape: Shape, words: int, file: File) -> str:
    """Return the xx: before every word; InputError if several languages have theirs."""
    column = shape.columns[words]
    if column.prefixes.total() * 20 < shape.sentences * 19 or not column.prefixes:
        return ""
    if len(column.prefixes) > 1:
        shown = ", ".join(sorted(column.prefixes))
        raise InputError(f"{file.path}: words begin with {shown}; a file holds one language: part it by them")
    return next(iter(column.prefixes))


def _said(reading: Reading, made: Tags | None, names: Sequence[str] | None, width: int) -> list[str]:
    """Return what is not plain of a reading."""
    said = []

    def named(place: int) -> str:
        return f"column {place + 1}" + (f" ({names[place]})" if names else "")

    if reading.tags is not None and (reading.tokens != 0 or reading.tags != width - 1):
        said.append(f"words in {named(reading.tokens)}, tags in {named(reading.tags)} of {width}")
    elif reading.tags is None and width > 1:
        said.append(f"words in {named(reading.tokens)} of {width}, no tags")
    if reading.number is not None:
        said.append(f"{named(reading.number)} counts the words")
    if reading.prefix:
        said.append(f"{reading.prefix} before every word is left out")
    style = reading.style
    if style.scheme not in ("any", "iob2"):
        said.append(f"scheme {style.scheme.upper()}")
    if style.scheme == "io":
        said.append("neighbouring words of one label are one entity")
    elif style.last or style.separator != "-":
        said.append(f"tags as {f'PER{style.separator}B' if style.last else f'B{style.separator}PER'}")
    if style.outside != "O":
        said.append(f"{style.outside} for O")
    if made is not None and made.wrong:
        most = ", ".join(tag for tag, _ in made.wrong.most_common(3))
        said.append(f"{made.wrong.total()} tags are none: {most}")
    if made is not None and made.chunks:
        said.append("the labels are those of chunks")
    return said
