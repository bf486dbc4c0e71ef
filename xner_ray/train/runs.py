"""Sentences of finished runs: all of them in order, or those at some places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from xner_ray.data.arrow import is_text, lengths, nested
from xner_ray.data.row import ROW, refuse_extension_types
from xner_ray.errors import InputError
from xner_ray.evaluate.scores import GOLD
from xner_ray.run.folder import RunFolder
from xner_ray.run.sealed import split_of
from xner_ray.storage import files as storage
from xner_ray.train.recipe import Source, Teacher, Training
from xner_ray.train.sentences import SPANS, TAGS, UNKNOWN, Tally, flagged, unknown_words
from xner_ray.translate.given import sides_of
from xner_ray.translate.health import GARBLED, check

Ints = NDArray[np.int64]
Opinions = tuple[float, dict[int, tuple[list[str], Any]]]  # a teacher's weight; by row the words and their tags
_BATCH = 16_384
_OF_MISSING = ("unprojected", "source_spans", "bridge_spans", "links")  # what tells the words of missing entities
_RUN_COLUMNS = ("row", "id", "doc_id", "lang", "tokens", "translation_score", "flags", "complete")


@dataclass(frozen=True)
class RunReader:
    """How the rows of a run become a source's sentences.

    take: the run's column for each of ours. asked: all columns that are read, among them the user's one of contexts.
    translation: the columns of a text, of its translation and of their languages, if it is to be looked at again.
    flagged: whether the run's own flags tell bad translations.
    """

    source: Source
    take: Mapping[str, str]
    asked: frozenset[str]
    translation: Sequence[str] | None = None
    flagged: bool = False

    @classmethod
    def of(cls, source: Source, learnt: bool, context: str | None = None) -> RunReader:
        """Return the reader of a source. learnt: `labels: null` means projected labels if True, else gold.

        context: the column of contexts, if they are read.
        """
        labels = source.labels_read(learnt=learnt)
        take = {name: name for name in _RUN_COLUMNS} | {"spans": "spans" if labels == "projected" else "gold_spans"}
        if source.side == "source":
            take |= {"tokens": "source_tokens", "spans": "source_spans", "lang": "source_lang"}
        if context is not None:
            take |= {"context": context}
        soft = ["target_tags"] if source.labels == "soft" or source.filters.mask_tagged is not None else []
        missing = _OF_MISSING if source.filters.incomplete == "words" else ()
        sides = None
        if source.filters.bad_translations == "drop":
            sides = sides_of(RunFolder(str(source.run)).recipe())
        flagged = learnt and leaves_out_flagged(source)
        return cls(source, take, frozenset({*take.values(), "spans", *soft, *missing, *(sides or ())}), sides, flagged)

    def files(self) -> list[tuple[str, str]]:
        """Return languages and files of the run, in the order in which they are read."""
        source = self.source
        # Rows are set aside because projection lost an entity; only projected labels of such a row are incomplete
        aside = self.take["spans"] != "spans" or source.filters.incomplete is not None
        folder = RunFolder(str(source.run))
        return [(lang, file) for lang in langs_of(source) for file in _files(folder, lang, source.splits, aside=aside)]

    def table(self, part: pa.Table, others: Sequence[Opinions] = ()) -> pa.Table:
        """Return rows of the run as sentences, with the columns for filters and `projected`: the scores of entities.

        `garbled` tells bad translations; without it nobody asked.
        Rows without the labels asked for have null.
        """
        soft = self.source.labels == "soft"
        columns = {name: part.column(taken) for name, taken in self.take.items()}
        columns["context"] = columns.get("context", pa.nulls(part.num_rows)).cast(pa.string())
        tags = _averaged(part, others, self.source.teacher_weight) if soft else pa.nulls(part.num_rows, TAGS)
        spans = pa.nulls(part.num_rows, SPANS) if soft else _plain(columns["spans"])
        table = pa.table({**columns, "spans": spans, "tags": tags, "projected": _scored(part)})
        if self.translation is not None:
            table = table.append_column("garbled", _garbled(part.select(self.translation)))
        elif self.flagged:
            table = table.append_column("garbled", pa.array(flagged(part.column("flags"), GARBLED)))
        unknown = [_unknown(part)] if self.source.filters.incomplete == "words" else []
        if (least := self.source.filters.mask_tagged) is not None:
            unknown.append(_tagged(part, least))
        return table.append_column("unknown", _united(unknown)) if unknown else table

    @property
    def labels(self) -> str:
        """The column that is null in rows without labels."""
        return "tags" if self.source.labels == "soft" else "spans"


def label_kind(source: Source, *, learnt: bool) -> str:
    """Return what the labels of a source are, in words. learnt: as in `RunReader.of`."""
    if source.run is None:
        return GOLD
    if source.side == "source":
        return GOLD if RunFolder(source.run).recipe().labelled else "a tagger's tags"
    kinds = {"projected": "projected labels", "gold": GOLD, "soft": "a tagger's tags"}
    return kinds[source.labels_read(learnt=learnt)]


def compared_with(training: Training) -> dict[str, str]:
    """Return what the scores of each language of `evaluate` are scores against."""
    found: dict[str, list[str]] = {}
    for source in training.evaluate:
        for lang in source_languages(source):
            found.setdefault(lang, []).append(label_kind(source, learnt=False))
    return {lang: " and ".join(dict.fromkeys(kinds)) for lang, kinds in sorted(found.items())}


def source_languages(source: Source) -> list[str]:
    """Return the languages of a source's sentences."""
    if source.input is not None:
        return [str(source.input.lang)]
    return [RunFolder(str(source.run)).recipe().source_side] if source.side == "source" else langs_of(source)


def leaves_out_flagged(source: Source) -> bool:
    """Return whether rows are left out, of data to learn from, that the run has flagged as no translations.

    Not where the filter is stated, and not where labels do not depend on the translation: gold, and a tagger's of the
    text that was translated.
    """
    stated = source.filters.bad_translations is not None
    if stated or source.run is None or source.side == "source" or source.labels == "gold":
        return False
    recipe = RunFolder(source.run).recipe()
    return recipe.direction == "train" or (source.labels != "soft" and recipe.projector != "transfer")


def run_rows(source: Source, learnt: bool, tally: Tally, context: str | None = None) -> Iterator[pa.Table]:
    """Yield a run's rows that have the labels asked for, as `RunReader.table` does, and `place`: where each stands.

    A place is the file's number in `RunReader.files` times 2 ** 32, and the number of the row in the file. A source
    sentence that the run projected into several languages is read once, even if some of them lack the row. Spans of the
    source side may overlap. context: the column of contexts, if they are read; InputError if the run has no such text.
    """
    folder, reader = RunFolder(str(source.run)), RunReader.of(source, learnt, context)
    recipe, filters = folder.recipe(), source.filters
    if filters.min_translation_score is not None and recipe.translate_engine == "provided":
        raise InputError(f"filters.min_translation_score: {source.run} translated nothing, so it has no such scores")
    if filters.mask_tagged is not None and "target_tag" not in recipe.stages:
        raise InputError(
            f"filters.mask_tagged: {source.run} has no target_tags; it needs a target_tag.engine, or leave it out"
        )
    if filters.bad_translations == "drop" and recipe.projector == "transfer" and recipe.direction == "test":
        raise InputError(f"filters.bad_translations: {source.run} translated nothing; leave it out")
    shared = source.side == "source" and recipe.direction == "train"
    seen: set[int] = set()
    files = reader.files()
    _count_missing(folder, source, {file for _, file in files}, tally, rejects=not shared)
    before, others = None, list[Opinions]()
    for number, (lang, file) in enumerate(files):
        if lang != before:
            before, others = lang, [_teacher(teacher, lang, source) for teacher in source.teachers]
        place = number << 32
        for part in _batches(file, reader.asked):
            places = pa.array(np.arange(place, place + part.num_rows))
            place += part.num_rows
            if shared:
                rows = part.column("row").to_pylist()
                new = pa.array([row not in seen for row in rows], pa.bool_())
                part, places = part.filter(new), places.filter(new)
                seen.update(rows)
            tally.read += part.num_rows
            table = reader.table(part, others).append_column("place", places)
            have = table.column(reader.labels).is_valid()
            tally.dropped["no labels"] += table.num_rows - int(pc.sum(have).as_py() or 0)
            yield table.filter(have)


def rows_at(reader: RunReader, file: str, places: Ints) -> pa.Table:
    """Return some rows of a file, ascending, as `RunReader.table` does; reads the row groups alone that have them."""
    with _opened(file) as parquet:
        sizes = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
        edges = np.concatenate([[0], np.cumsum(sizes)])
        groups = np.unique(np.searchsorted(edges, places, side="right") - 1)
        parts = []
        for group in groups.tolist():
            there = [name for name in sorted(reader.asked) if name in parquet.schema_arrow.names]
            own = places[(places >= edges[group]) & (places < edges[group + 1])] - edges[group]
            table = parquet.read_row_group(group, columns=there, use_threads=False)
            parts.append(_completed(table, reader.asked, file).take(own))
    return reader.table(pa.concat_tables(parts).combine_chunks())


def _count_missing(folder: RunFolder, source: Source, read: Collection[str], tally: Tally, *, rejects: bool) -> None:
    """Count the rows that the run has rejected, or put aside, and that the source does not read.

    rejects: not of source sentences, which another language of the run may have.
    """
    langs = langs_of(source)
    for entry in folder.require_sealed().files:
        name = entry["file"]
        (split, aside), (kind, lang, _) = split_of(name), name.split("/", 2)
        if split not in source.splits or lang not in langs or folder.path(name) in read:
            continue
        if aside or (rejects and kind == "rejects"):
            reason = "put aside by the run" if aside else "rejected by the run"
            tally.read += entry["rows"]
            tally.dropped[reason] += entry["rows"]


def langs_of(source: Source) -> list[str]:
    """Return the languages of the run that the source takes. InputError if the run lacks one."""
    folder = RunFolder(str(source.run))
    recipe = folder.recipe()
    folder.require_sealed()
    missing = sorted(set(source.langs or ()) - set(recipe.languages))
    if missing:
        raise InputError(f"{folder.root}: has no language {missing[0]}; it has {', '.join(recipe.languages)}")
    return source.langs or recipe.languages


def _files(folder: RunFolder, lang: str, splits: Sequence[str], *, aside: bool) -> list[str]:
    """Return the published files of a language; aside: then those of incomplete sentences, set apart by the run."""
    whole = folder.published(lang, splits, incomplete=False)
    return [*whole, *(file for file in folder.published(lang, splits) if file not in whole)] if aside else whole


@contextmanager
def _opened(file: str) -> Iterator[pq.ParquetFile]:
    filesystem, inner = storage.locate(file)
    try:
        with filesystem.open_input_file(inner) as stream, pq.ParquetFile(stream) as parquet:
            refuse_extension_types(parquet.schema_arrow, file)
            yield parquet
    except (OSError, pa.ArrowException) as error:
        raise storage.failure(file, "read", error) from None


def _completed(table: pa.Table, columns: Collection[str], file: str) -> pa.Table:
    """Return a table with null for those columns that its file is too old to have.

    InputError if it lacks one of the user's, which holds contexts, or that is no text.
    """
    for name in set(columns) - set(ROW.names):
        if name not in table.column_names:
            raise InputError(
                f"{file}: has no column {name!r}, which model.context names; make the run with input.carry: [{name}], "
                "or leave model.context out"
            )
        if not is_text(kind := table.column(name).type):
            raise InputError(f"{file}: column {name!r}, which model.context names, has the type {kind}; allowed: text")
    for name in sorted(set(columns) - set(table.column_names)):
        table = table.append_column(ROW.field(name), pa.nulls(table.num_rows, ROW.field(name).type))
    return table


def _batches(file: str, columns: Collection[str]) -> Iterator[pa.Table]:
    """Yield some columns of a published file in parts."""
    with _opened(file) as parquet:
        there = [name for name in columns if name in parquet.schema_arrow.names]
        for batch in parquet.iter_batches(batch_size=_BATCH, columns=there):
            yield _completed(pa.Table.from_batches([batch]), columns, file)


def _plain(column: pa.ChunkedArray) -> pa.Array:
    """Return the spans without their scores; null stays null."""
    spans = column.combine_chunks()
    cells = spans.flatten()
    parts = pa.StructArray.from_arrays(
        [cells.field(name) for name in ("start", "end", "label")], fields=list(SPANS.value_type)
    )
    return nested(lengths(spans), parts, SPANS, null=spans.is_null())


def _scored(table: pa.Table) -> pa.Array:
    """Return the scores of each row's projected entities, as lists; null becomes an empty list."""
    spans = table.column("spans").combine_chunks()
    return nested(lengths(spans), spans.flatten().field("score"))


def _garbled(sides: pa.Table) -> pa.Array:
    """Return which translations are none. sides: columns of a text, its translation, and the languages of both."""
    rows = zip(*(column.to_pylist() for column in sides.columns), strict=True)
    known = ((row, None not in row) for row in rows)  # a row that was rejected early may lack a side
    return pa.array([both and bool(GARBLED.intersection(check(*row))) for row, both in known], pa.bool_())


def _united(words: Sequence[list[list[int]]]) -> pa.Array:
    return pa.array([sorted({word for own in row for word in own}) for row in zip(*words, strict=True)], UNKNOWN)


def _tagged(table: pa.Table, least: float) -> list[list[int]]:
    """Return the words of each row without a label whose tags are those of entities with at least a probability."""
    found = []
    for spans, tags in zip(*(table.column(name).to_pylist() for name in ("spans", "target_tags")), strict=True):
        taken = {word for span in spans or () for word in range(span["start"], span["end"])}
        shares: Counter[int] = Counter()
        for cell in tags or ():
            if cell["tag"] != "O" and cell["word"] not in taken:
                shares[cell["word"]] += cell["probability"]
        found.append([word for word, share in shares.items() if share >= least])
    return found


def _unknown(table: pa.Table) -> list[list[int]]:
    """Return the words of each row that its missing entities may stand on."""
    lost = np.flatnonzero(lengths(table.column("unprojected")) > 0)
    found: list[list[int]] = [[]] * table.num_rows
    names = ("tokens", "spans", *_OF_MISSING)
    for number, row in zip(lost.tolist(), table.select(names).take(pa.array(lost)).to_pylist(), strict=True):
        given = row["bridge_spans"]  # links start there, where a back-translation lies between
        cells = enumerate(row["source_spans"] or ()) if given is None else ((cell["source"], cell) for cell in given)
        entities = {source: (cell["start"], cell["end"]) for source, cell in cells}
        words = unknown_words(row["tokens"] or (), row["spans"] or (), row["unprojected"], entities, row["links"])
        found[number] = words
    return found


def _teacher(teacher: Teacher, lang: str, source: Source) -> Opinions:
    found: dict[int, tuple[list[str], Any]] = {}
    langs_of(Source(run=teacher.run, langs=[lang]))
    for file in _files(RunFolder(teacher.run), lang, source.splits, aside=True):
        for table in _batches(file, ["row", "tokens", "target_tags"]):
            rows = (table.column(name).to_pylist() for name in ("row", "tokens", "target_tags"))
            found |= {row: (tokens, tags) for row, tokens, tags in zip(*rows, strict=True)}
    if all(tags is None for _, tags in found.values()):
        raise InputError(f"teachers: {teacher.run} has no target_tags in {lang}; it needs a target_tag.engine")
    return teacher.weight, found


def _averaged(table: pa.Table, others: Sequence[Opinions], weight: float) -> pa.Array:
    """Return the weighted mean of the teachers' distributions; null where no teacher has tags for a row.

    A teacher without tags for a row does not count there. InputError if a teacher's row has other words.
    """
    if not others:
        return table.column("target_tags").combine_chunks()
    result = []
    for row, tokens, own in zip(*(table.column(n).to_pylist() for n in ("row", "tokens", "target_tags")), strict=True):
        given = [(weight, own)]
        for other_weight, rows in others:
            words, tags = rows.get(row, (tokens, None))
            if words != tokens:
                raise InputError(f"teachers: a run has other words in row {row}; all must be over the same target text")
            given.append((other_weight, tags))
        voices = [(share, tags) for share, tags in given if tags is not None]
        total = sum(share for share, _ in voices)
        cells: dict[tuple[int, str], float] = {}
        for share, tags in voices:
            for cell in tags:
                key = (cell["word"], cell["tag"])
                cells[key] = cells.get(key, 0.0) + share / total * cell["probability"]
        found = [{"word": word, "tag": tag, "probability": p} for (word, tag), p in sorted(cells.items())]
        result.append(found if voices else None)
    return pa.array(result, TAGS)
