"""The command `look`: what is in these files, how they would be read, what is wrong with them, and how to go on.

A large file is looked at in its head and in some pieces spread over it. What is refused is shown as far as it can be:
the message, the formats that may be meant and what each gives, and the first lines.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

from xner_ray import defaults
from xner_ray.data.languages import LANGUAGES
from xner_ray.data.scripts import languages_in, scripts_of
from xner_ray.errors import InputError
from xner_ray.read.find import find_files
from xner_ray.read.idle import refuse_idle
from xner_ray.read.index.sampled import Sample, first_lines, maybe, sampled
from xner_ray.read.inputs import stated_of
from xner_ray.read.record import START, File, Record, record_id, split_of_file
from xner_ray.read.records import FORMATS, read_raws, records_of
from xner_ray.read.side import ReadSide, side
from xner_ray.recipe.decides import Section
from xner_ray.recipe.input import Input
from xner_ray.recipe.load import checked
from xner_ray.recipe.settings import overridden
from xner_ray.report.cures import cure
from xner_ray.report.look import Look, Looked, Rejected
from xner_ray.storage import files as storage
from xner_ray.storage import hub

_MOST_FILES = 32  # of one path
_MOST_RECORDS = 400  # whose ids, texts and entities are looked at
_LETTERS = 20_000  # of text, by which the language is told
_SURE, _LIKELY = 0.8, 0.5  # probability
_EXAMPLES = 3  # bad rows of each reason
_MOST_NAMED = 12  # languages of a script


if TYPE_CHECKING:
    from xner_ray.translate.health import LanguageIdentifier

_PLAIN = {
    "text": "a sentence a line",
    "spacy": "a document a row, with doc.ents",
    "brat": "a document a row, .ann beside .txt",
    "uner": "number, word and tag a line",
    "conllu": "the ten columns of CoNLL-U",
    "conll2012": "the columns of CoNLL-2012",
    "webanno": "the layers that #FORMAT names",
}


class _Asked(Section):
    input: Input


@dataclass
class _Seen:
    """What single records show. head: how many of the rows are the first of their file."""

    rows: list[tuple[File, Record, ReadSide]]
    head: list[tuple[File, Record, ReadSide]]
    letters: set[str]  # of the prefixes of tags


def look(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    overrides: Sequence[str] = (),
    sentences: int = defaults.SENTENCES_SHOWN,
) -> Looked:
    """Return what is in files: paths, folders, globs or addresses.

    overrides: keys of a recipe's `input`, as in `input.format=conll`. sentences: how many of each are shown.
    RecipeError for a wrong key; InputError if there is no such file. What cannot be read in one way is no error: it is
    in `Look.refused`.
    """
    hub.begin()
    given = [os.fspath(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
    found = []
    for path in _paths(given):
        data = overridden({"input": {"path": path}}, overrides)
        asked = checked(_Asked, data, "look").input
        langs = asked.lang if isinstance(asked.lang, list) else [asked.lang]
        stated = {key: value for key, value in data["input"].items() if key != "path"}
        found += [_look(asked, lang, stated, sentences) for lang in (langs if "{lang}" in str(path) else langs[:1])]
    return Looked(found)


def _paths(given: Sequence[str]) -> list[str | dict[str, str]]:
    """Return the paths of recipes that mean these: by their splits, as one glob, or each by itself."""
    splits = [split_of_file(os.path.basename(path)) for path in given]
    if len(given) > 1 and all(splits) and len(set(splits)) == len(splits) and all(map(_is_file, given)):
        return [{str(split): path for split, path in zip(splits, given, strict=True)}]
    folders = {os.path.dirname(path) for path in given}
    suffixes = {os.path.splitext(path)[1] for path in given}
    if len(given) > 1 and len(folders) == len(suffixes) == 1 and all(map(_is_file, given)):
        folder, suffix = folders.pop(), suffixes.pop()
        there = [info.base_name for info in storage.files_below(folder or ".", recursive=False)]
        if suffix and {name for name in there if name.endswith(suffix)} == set(map(os.path.basename, given)):
            return [storage.join(folder, f"*{suffix}") if folder else f"*{suffix}"]
    return list(given)


def _is_file(path: str) -> bool:
    return bool(storage.info_of(path).is_file)


def _look(given: Input, lang: str, stated: Mapping[str, Any], sentences: int) -> Look:
    found = _found(given, lang, stated, sentences)
    found.clean()
    return found


def _found(given: Input, lang: str, stated: Mapping[str, Any], sentences: int) -> Look:
    shown = given.path if isinstance(given.path, str) else {str(split): path for split, path in given.path.items()}
    found = Look(shown, lang)
    try:
        files = _find(given, lang)
    except InputError as error:
        if str(error).endswith(("no such file or folder", "no file matches")):
            raise
        found.refused = str(error)
        _show_choices(found, given, lang)
        return found
    found.files, found.format = len(files), files[0].format
    found.total_bytes = sum(file.size for file in files)
    chosen = files if len(files) <= _MOST_FILES else files[:: -(-len(files) // _MOST_FILES)]
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="xner_ray-look-") as folder:
        for file in chosen:
            try:
                samples.append(sampled(file, given.max_words, len(chosen), folder))
            except InputError as error:
                found.refused = found.refused or str(error)
                found.head = found.head or first_lines(file)
        if all(one.exact for one in samples):  # elsewhere the rest may have what a key is for
            try:
                refuse_idle((one.file, one.obeyed) for one in samples)
            except InputError as error:
                found.refused = found.refused or str(error)
        seen = _seen(samples, given)
        _note_language(found, seen, stated="lang" in stated)
        if found.lang != lang:
            samples = [replace(one, file=replace(one.file, lang=found.lang)) for one in samples]
            seen = _seen(samples, given)
        _note_counts(found, samples, len(files))
        _note_records(found, seen, sentences)
        found.said = _same({one.file.name: list(_read_as(one, seen)) for one in samples})
        found.rejects = list(_rejects(samples, given))
        if samples and not found.looked_at:
            found.refused = found.refused or f"{found.path}: holds no sentence"
    if samples and found.looked_at:
        found.input = _section(found, samples[0].file, stated)
    return found


def _find(given: Input, lang: str) -> list[File]:
    return find_files(
        given.path if isinstance(given.path, str) else {str(split): path for split, path in given.path.items()},
        format=given.format,
        lang=lang,
        side="target",
        columns=given.columns,
        sentences=given.split == "sentences",
        carry=given.carry,
        stated=stated_of(given),
    )


def _show_choices(found: Look, given: Input, lang: str) -> None:
    """Show what an input that cannot be told would be in each format that may be meant, and its first lines."""
    if given.format is not None or not isinstance(given.path, str):
        return
    for kind in maybe(given.path.replace("{lang}", lang)):
        asked = given.model_copy(update={"format": kind})
        try:
            file = _find(asked, lang)[0]
            with tempfile.TemporaryDirectory(prefix="xner_ray-look-") as folder:
                one = sampled(file, given.max_words, 1, folder)
            labels = ", ".join(f"{label} {count:,}" for label, count in one.labels.most_common(5)) or "none"
            bad = sum(count for scan in one.scans for count, _ in scan.rejects.values())
            what = f"{one.seen:,} sentences, labels: {labels}" + (f"; {bad:,} bad" if bad else "")
        except InputError as error:
            what = str(error)
        found.choices[f"input.format: {kind}"] = what
    for file in islice(_files_of(given.path.replace("{lang}", lang)), 1):
        found.head = first_lines(file)


def _files_of(path: str) -> Iterator[File]:
    try:
        yield from find_files(path, format="text", lang="eng_Latn", side="target", columns=Input(path=path).columns)
    except InputError:
        return


def _seen(samples: Sequence[Sample], given: Input) -> _Seen:
    """Read the first records of each sample's pieces."""
    seen = _Seen([], [], set())
    places = [(one.file, place) for one in samples for place in one.places]
    for file, place in places:
        for raw in islice(read_raws(file, place, extra=False), max(2, _MOST_RECORDS // len(places))):
            seen.letters.update(tag[0].upper() for tag in _tags(raw, file) if tag[1:2] == "-")
            for record in records_of(raw, file):
                row = (file, record, side(record, file, given.labels, given.max_words))
                seen.rows.append(row)
                if place == START:  # elsewhere lines count from the place
                    seen.head.append(row)
    return seen


def _tags(raw: Any, file: File) -> Sequence[str]:
    """Return the tags of a record that has words with tags."""
    tagged = FORMATS[file.format].tagged
    made = tagged(raw, file) if tagged is not None else None
    if made is not None:
        return made.tags or ()
    tags = raw.data.get(file.key("tags")) if isinstance(raw.data, dict) else None
    names = raw.names.get(file.key("tags")) or file.reading.names
    tags = names if names and isinstance(tags, list) else tags
    return tags if isinstance(tags, list | tuple) and all(isinstance(tag, str) for tag in tags) else ()


@cache
def _identifier() -> LanguageIdentifier:
    from xner_ray.translate.health import LanguageIdentifier  # its model: a half second

    return LanguageIdentifier("look")


def _note_language(found: Look, seen: _Seen, *, stated: bool) -> None:
    """Note the scripts of the text and the languages that fit."""
    texts = [made.text or " ".join(made.tokens or ()) for _, _, made in seen.rows]
    found.scripts = scripts_of(texts)
    if not found.scripts:
        return
    script = next(iter(found.scripts))
    fitting = [language.code for language in languages_in(script)]
    ranked: list[tuple[str, float]] = []
    if find_spec("py3langid") is not None and len(fitting) > 1:
        ranked = _identifier().likely(" ".join(texts)[:_LETTERS], fitting)
    likely = [code for code, probability in ranked if probability >= (1 - _SURE) / 2]
    found.languages_by = f"script {script}" + (" and py3langid" if likely else "")
    found.languages = likely or fitting[:_MOST_NAMED]
    found.more_languages = 0 if likely else len(fitting) - len(found.languages)
    if stated:
        return
    if ranked and ranked[0][1] >= _SURE:
        found.lang = ranked[0][0]
        same = [code for code, probability in ranked[1:] if probability == ranked[0][1]]
        found.lang_note = f"py3langid: {ranked[0][1]:.0%}" + (f"; or {', '.join(same)}" if same else "")
    elif len(fitting) == 1:
        found.lang = fitting[0]
        found.lang_note = "the language of its script"
    elif fitting and LANGUAGES[found.lang].script != script:
        found.lang = found.languages[0]
        found.lang_note = f"not sure: one of {', '.join(found.languages)}" + (", ..." if found.more_languages else "")
    else:
        found.lang_note = "the default: say which language it is"
        if ranked and ranked[0][0] != found.lang and ranked[0][1] > _LIKELY:
            found.lang_note = f"the default; the text looks like {ranked[0][0]} ({ranked[0][1]:.0%}, py3langid)"


def _note_counts(found: Look, samples: Sequence[Sample], n_files: int) -> None:
    found.looked_at = sum(one.seen for one in samples)
    found.exact = all(one.exact for one in samples) and len(samples) == n_files
    known = [one.rows for one in samples if one.rows is not None]
    if len(known) == len(samples) and samples:
        share = sum(one.file_bytes for one in samples) / max(found.total_bytes, 1)
        found.rows = round(sum(known) / (share if len(samples) < n_files and share else 1))
    found.words = sum(scan.words for one in samples for scan in one.scans)
    found.labelled = sum(scan.labelled for one in samples for scan in one.scans)
    found.unlabelled = next((one.unlabelled for one in samples if one.unlabelled), "")
    labels: Counter[str] = sum((one.labels for one in samples), Counter())
    found.labels = dict(labels.most_common())
    splits: Counter[str] = Counter()
    for one in samples:
        splits.update(one.splits)
    found.splits = dict(splits)


def _note_records(found: Look, seen: _Seen, sentences: int) -> None:
    own = [record.id for _, record, _ in seen.rows if record.id is not None]
    found.ids = own[:3] or [record_id(record, file) for file, record, _ in seen.head[:3]]
    found.own_ids = len(own) / len(seen.rows) if seen.rows else 0.0
    keys = Counter((record.split or file.split, record.id) for file, record, _ in seen.rows if record.id is not None)
    found.repeated_ids = sum(count - 1 for count in keys.values())
    found.documents = list(dict.fromkeys(record.doc_id for _, record, _ in seen.rows if record.doc_id))[:3]
    good = [row for row in seen.head if row[2].reason is None and row[2].tokens]
    rows = [row for row in good if row[2].spans] or good
    step = max(1, len(rows) // sentences) if sentences else 1
    for file, record, made in rows[::step][:sentences]:
        spans = [{"start": s.start, "end": s.end, "label": s.label} for s in made.spans or ()]
        found.sentences.append({"id": record_id(record, file), "tokens": made.tokens, "spans": spans})


def _same(lines: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines of all files, each once; with the names of files where others do not have it."""
    owners: dict[str, list[str]] = {}
    for name, own in lines.items():
        for line in dict.fromkeys(own):
            owners.setdefault(line, []).append(name)
    return [line if len(own) == len(lines) else f"{', '.join(own)}: {line}" for line, own in owners.items()]


def _read_as(one: Sample, seen: _Seen) -> Iterator[str]:
    """Yield how a file is read, the plain included."""
    file, reading = one.file, one.file.reading
    lines = [line.removeprefix("read as ") for line in (*file.said, *one.said)]
    records = [(record, made) for own, record, made in seen.rows if own.path == file.path]
    said = "; ".join(lines)
    word_lines = file.format in ("conll", "conllu", "conll2012", "uner", "webanno")
    labelled = any(record.spans is not None for record, _ in records)
    if file.format == "conll" and "words in" not in said:
        lines.append("words in the first column" + (", tags in the last" if labelled else ""))
    if not word_lines and file.format not in ("text", "inline", "brat", "spacy", "table", "run"):
        for ours, there in (
            ("text", any(record.text is not None for record, _ in records)),
            ("tokens", any(record.tokens is not None for record, _ in records)),
            ("tags", labelled),
            ("spans", any(record.chars is not None for record, _ in records)),
        ):
            if there and f"{ours} under" not in said and not reading.shape.startswith("label"):
                lines.append(f"{ours} under {file.key(ours)!r}")
    if any(record.spans for record, _ in records) and seen.letters and "scheme" not in said:
        lines.append(f"scheme {'BIOES' if seen.letters & set('ESLU') else 'IOB2'}")
    if any(record.chars for record, _ in records) and "offsets" not in said:
        unit = {"utf16": "UTF-16 units", "tokens": "token numbers"}.get(reading.offsets, reading.offsets)
        lines.append(f"offsets in {unit}, ends {reading.ends}")
    yield from lines or [_PLAIN[file.format]] if file.format in _PLAIN else lines


def _rejects(samples: Sequence[Sample], given: Input) -> Iterator[Rejected]:
    """Yield the bad rows by reason, the commonest first, with the first examples."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for one in samples:
        for number, scan in enumerate(one.scans):
            for reason, (count, row) in scan.rejects.items():
                counts[reason] += count
                if len(known := examples.setdefault(reason, [])) < _EXAMPLES:
                    record = one.record(number, row)
                    made = side(record, one.file, given.labels, given.max_words)
                    known.append((made.detail or f"{one.file.name}:{record.line}: {record.detail}") + one.note(number))
    for reason, count in counts.most_common():
        yield Rejected(reason, count, examples[reason], cure(reason))


def _section(found: Look, file: File, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section `input` of a recipe: what is stated, and of what was found what a scan could not find."""
    section: dict[str, Any] = {"path": found.path}
    if file.said or "format" in stated:
        section["format"] = file.format
    section["lang"] = found.lang
    return section | {key: value for key, value in stated.items() if key not in section}
