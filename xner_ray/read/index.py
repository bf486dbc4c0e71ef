"""The index: one scan of the input that fixes the units, once, for this run and every later resume.

The scan of each file is a job of its own, so `map_files` may spread them over a cluster. What comes back is small:
marks every few hundred rows, counts, and the addresses of hashed ids. Further jobs compare these, and return the rows
that repeat an id. A file whose rows have no ids of their own takes no part in the search for duplicates, since each
`<file>:<line>` occurs once. (A user's id in another file that is spelt the same is not found.)
"""

from __future__ import annotations

import base64
import json
import random
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa

from xner_ray.errors import InputError
from xner_ray.read.duplicates import CompareJob, Integers, compare_ids, compare_jobs, places
from xner_ray.read.inputs import Text, find_texts, input_of
from xner_ray.read.record import File, Place, Reading
from xner_ray.read.scan import ScanJob, scan_file
from xner_ray.read.units import Rows, Scan, Segment, Unit, chunks, grown_unit_rows, segments, unit_name, words_before
from xner_ray.recipe.columns import SPLITS, Columns
from xner_ray.recipe.model import Recipe
from xner_ray.storage import files as storage

MapFiles = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]

_PLACE = [("offset", pa.int64()), ("line", pa.int64()), ("doc_id", pa.string()), ("docs", pa.int64())]
_SEGMENT = pa.list_(
    pa.struct([("file", pa.int32()), *_PLACE, ("row", pa.int64()), ("skip", pa.int64()), ("take", pa.int64())])
)
_HERE = ("path", "stamp", "stated")  # of a file: where it is on this machine, and what its reading has settled
_PARTS = ("segments", "parallel", "links")
_UNITS = pa.schema(
    [
        ("name", pa.string()),
        ("lang", pa.string()),
        ("split", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("picked", pa.list_(pa.int64())),
        ("duplicates", pa.list_(pa.struct([("row", pa.int64()), ("first", pa.int64())]))),
        ("segments", _SEGMENT),
        ("parallel", _SEGMENT),
        ("n_words", pa.int64()),
        ("links", _SEGMENT),
    ]
)


@dataclass(frozen=True)
class Index:
    """All that a run must know of its input. Each file counts once."""

    units: list[Unit]
    labels_found: list[str]  # of the input and of what gives the entities, after the label map, sorted
    labels_dropped: dict[str, int]  # after rename, with the number of their spans
    gold_labels: dict[str, list[str]]  # of the parallel files, by language
    n_rows: dict[str, int]  # by `lang`, after limit and sample
    n_words: dict[str, int]
    repaired: int  # tags of the same files that were read as another
    extra: list[pa.Field] = field(default_factory=list)  # the user's own columns
    unit_rows: int = 0  # of a full unit

    def to_table(self) -> pa.Table:
        """Return one row a unit, with the rest as JSON in the schema's metadata; not where files are: see `bound`."""
        files: dict[File, int] = {}
        rows = [_unit_cells(unit, files) for unit in self.units]
        rest = {name: value for name, value in vars(self).items() if name not in ("units", "extra")}
        rest["extra"] = base64.b64encode(pa.schema(self.extra).serialize().to_pybytes()).decode()
        names = [name for name in File.__slots__ if name not in _HERE]
        rest["files"] = [
            {name: getattr(file, name) for name in names}
            | {"columns": file.columns.model_dump(), "reading": file.reading.to_json()}
            for file in files
        ]
        metadata = {b"xner_ray.index": json.dumps(rest, sort_keys=True).encode()}
        return pa.Table.from_pylist(rows, _UNITS.with_metadata(metadata))

    @classmethod
    def from_table(cls, table: pa.Table) -> Index:
        """Return the index that `to_table` wrote."""
        rest: dict[str, Any] = json.loads(table.schema.metadata[b"xner_ray.index"])
        for gone in ("inputs", "parallel_inputs"):  # of earlier versions
            rest.pop(gone, None)
        files = [_file(data) for data in rest.pop("files")]
        rest["extra"] = list(pa.ipc.read_schema(pa.py_buffer(base64.b64decode(rest["extra"]))))
        return cls(units=[_unit(cells, files) for cells in table.to_pylist()], **rest)

    def bound(self, recipe: Recipe) -> Index:
        """Return the index with the files where the recipe has them now. InputError if one is missing."""
        inputs, parallel, links = find_texts(recipe)
        known: dict[int, dict[tuple[str, str], File]] = {}  # by text: a run's languages may share one

        def found(part: Segment, text: Text | None) -> Segment:
            assert text is not None, "it was listed with the units"
            files = known.setdefault(id(text), {(file.split, file.name): file for file in text.files})
            key = (part.file.split, part.file.name)
            if (file := files.get(key)) is None:
                raise InputError(f"{part.file.split}/{part.file.name}: the input does not have this file any more")
            if file.reading != part.file.reading:
                file = files[key] = replace(file, reading=part.file.reading)
            return replace(part, file=file)

        units = []
        for unit in self.units:
            texts = (input_of(inputs, unit.lang), parallel.get(unit.lang), links.get(unit.lang))
            parts: dict[str, Any] = {
                name: tuple(found(part, text) for part in getattr(unit, name))
                for name, text in zip(_PARTS, texts, strict=True)
            }
            units.append(replace(unit, **parts))
        return replace(self, units=units)


def _file(data: dict[str, Any]) -> File:
    carry = data.get("carry")  # JSON has no tuples
    data = {name: value for name, value in data.items() if name != "identity"} | {"path": "", "stamp": ""}
    reading = Reading.from_json(data["reading"]) if "reading" in data else Reading()  # earlier versions had none
    parts = {"columns": Columns(**data["columns"]), "carry": None if carry is None else tuple(carry)}
    return File(**data | parts | {"reading": reading})


def _unit_cells(unit: Unit, files: dict[File, int]) -> dict[str, Any]:
    def cells(part: Segment) -> dict[str, Any]:
        place = {"file": files.setdefault(part.file, len(files)), **part.place._asdict()}
        return place | {"row": part.row, "skip": part.skip, "take": part.take}

    own = {name: getattr(unit, name) for name in ("name", "lang", "split", "start", "stop", "picked", "n_words")}
    parts = {name: [cells(part) for part in getattr(unit, name)] for name in _PARTS}
    return own | parts | {"duplicates": [{"row": row, "first": first} for row, first in unit.duplicates]}


def _unit(cells: dict[str, Any], files: Sequence[File]) -> Unit:
    def part(found: dict[str, Any]) -> Segment:
        place = Place(*(found[name] for name in Place._fields))
        return Segment(files[found["file"]], place, found["row"], found["skip"], found["take"])

    picked = tuple(cells["picked"]) if cells["picked"] is not None else None
    duplicates = tuple((pair["row"], pair["first"]) for pair in cells["duplicates"])
    parts = {name: tuple(map(part, cells.get(name) or ())) for name in _PARTS}
    return Unit(**cells | parts | {"picked": picked, "duplicates": duplicates})


def build_index(
    recipe: Recipe,
    *,
    map_files: MapFiles = map,
    unit_rows: int | None = None,
    folder: str | None = None,
    compare: bool = True,
) -> Index:
    """Scan every file of the input and fix the units.

    map_files: called like `map`, with a top-level function and a list of jobs; answers may come in any order. Called
    once to scan, one job a file, and once to compare ids, if there are any.
    unit_rows: that of an earlier index, whose units must stay as they are.
    folder: holds 24 bytes a row meanwhile; every job must reach it. None: a local one.
    compare: whether to look for duplicate ids.
    InputError for files that cannot be used, and for parallel text or links of another length than the input.
    """
    inputs, parallel, links = find_texts(recipe)
    texts = [*inputs.values(), *(text for beside in (parallel, links) for _, text in sorted(beside.items()))]
    train = recipe.direction == "train"
    entities_in = list((inputs if train else parallel).values()) if recipe.entities_given else []
    with _folder(folder) as ids:
        jobs: list[ScanJob] = []
        owner: list[Text] = []
        for text in texts:
            for file in text.files:
                into = ids if compare and text in inputs.values() else None
                jobs.append(ScanJob(len(jobs), file, text in entities_in, recipe.input.limit, into))
                owner.append(text)
        scans: dict[int, Scan] = {scan.number: scan for scan in map_files(scan_file, jobs)}
        for number, text in enumerate(owner):
            text.scans.append(scans[number])
        duplicates = _duplicates(owner, inputs, map_files)
    for text in inputs.values():
        if not text.rows:
            raise InputError(f"{text.described}: holds no sentence")
    for key, beside in (("parallel", parallel), ("links", links)):
        for lang, text in beside.items():
            _refuse_other_length(input_of(inputs, lang), text, recipe.input.limit, key)
    for text in entities_in:
        if not any(scan.labelled for scan in text.scans):
            needed = "direction train needs labels" if train else "tag.engine: provided needs labels"
            raise InputError(
                f"{text.described}: has no labels (read as {text.files[0].format}); {needed}, or a tagger "
                "(tag.engine: spacy)"
            )
    extra = _extra(list(inputs.values()))
    labelled = list(dict.fromkeys([*inputs.values(), *entities_in]))
    found = sum((_renamed(text.labels, recipe.input.labels.rename) for text in labelled), Counter[str]())
    gold = {lang: _renamed(text.labels, recipe.input.labels.rename) for lang, text in parallel.items()}
    keep = recipe.input.labels.keep
    selections = {lang: _selection(input_of(inputs, lang), recipe) for lang in recipe.languages}
    sizes = [len(rows) for splits in selections.values() for _, rows in splits]
    unit_rows = unit_rows or grown_unit_rows(sizes, recipe.engine.unit_rows)
    units: list[Unit] = []
    for lang, splits in selections.items():
        text = input_of(inputs, lang)
        repeated = duplicates[text.lang]
        if recipe.input.sample is not None:
            repeated = _duplicates_among(repeated, splits)
        units += _units(lang, text, [parallel.get(lang), links.get(lang)], splits, unit_rows, repeated)
    return Index(
        units=units,
        labels_found=sorted(found if keep is None else found.keys() & keep),
        labels_dropped={} if keep is None else {label: found[label] for label in sorted(found.keys() - keep)},
        gold_labels={lang: sorted(names if keep is None else names.keys() & keep) for lang, names in gold.items()},
        n_rows={lang: sum(len(rows) for _, rows in splits) for lang, splits in selections.items()},
        n_words={lang: sum(unit.n_words for unit in units if unit.lang == lang) for lang in selections},
        repaired=sum(scan.repaired for text in labelled for scan in text.scans),
        extra=extra,
        unit_rows=unit_rows,
    )


def _renamed(counts: Counter[str], rename: Mapping[str, str]) -> Counter[str]:
    """Return the counts under the labels' new names; labels of one new name are added up."""
    renamed: Counter[str] = Counter()
    for label, count in counts.items():
        renamed[rename.get(label, label)] += count
    return renamed


@contextmanager
def _folder(given: str | None) -> Iterator[str]:
    """Make a new folder and delete it afterwards.

    Others may be in `given`: that of a dead driver, whose last jobs still write, or of a second driver.
    """
    if given is None:
        with tempfile.TemporaryDirectory(prefix="xner_ray-index-") as folder:
            yield folder
        return
    own = storage.join(given, uuid.uuid4().hex)
    try:
        yield own
    finally:
        storage.delete(own)
        if not storage.files_below(given):
            storage.delete(given)


def _duplicates(owner: Sequence[Text], inputs: dict[str, Text], map_files: MapFiles) -> dict[str, Integers]:
    """Return (row, first row with its id) of the rows that repeat an id, by language of the input; (n, 2), sorted."""
    starts = np.zeros(len(owner), np.int64)
    for text in inputs.values():
        of_text = [number for number, one in enumerate(owner) if one is text]
        starts[of_text] = text.starts()[:-1]
    jobs: list[CompareJob] = []
    for lang, text in inputs.items():
        with_ids = [scan for scan in text.scans if scan.pieces]
        pieces = tuple(piece for scan in with_ids for piece in scan.pieces)
        jobs += compare_jobs(lang, pieces, sum(scan.rows for scan in with_ids))
    found: dict[str, list[Integers]] = {lang: [np.empty((0, 2), np.int64)] for lang in inputs}
    for equal in map_files(compare_ids, jobs) if jobs else ():
        number, row = places(np.stack([equal.rows, equal.firsts], axis=1))
        found[equal.lang].append(starts[number] + row)
    pairs = {lang: np.concatenate(found.pop(lang)) for lang in inputs}
    return {lang: rows[np.argsort(rows[:, 0])] for lang, rows in pairs.items()}


def _refuse_other_length(text: Text, beside: Text, limit: int | None, key: str) -> None:
    counts = [min(side.rows, limit) if limit else side.rows for side in (text, beside)]
    if counts[0] != counts[1]:
        lines, rule = {
            "parallel": ("sentences", "sentence i must be the translation of sentence i"),
            "links": ("lines", "line i must have the links of sentence i, and be empty if there are none"),
        }[key]
        raise InputError(
            f"input.{key}: {beside.described} has {beside.rows} {lines}, {text.described} has {text.rows} sentences; "
            f"{rule}"
        )


def _extra(texts: Sequence[Text]) -> list[pa.Field]:
    """Return the carried columns, which must be the same in every file; of JSONL some row of a text must have them."""
    for text in texts:
        wanted = {name for file in text.files if file.format == "jsonl" for name in file.carry or ()}
        if lost := sorted(wanted - {name for scan in text.scans for name in scan.carried}):
            raise InputError(f"{text.described}: input.carry: no row has the key {lost[0]!r}")
    files = [file for text in texts for file in text.files]
    columns = [sorted(scan.extra, key=lambda field: str(field.name)) for text in texts for scan in text.scans]
    for file, fields in zip(files, columns, strict=True):
        if fields != columns[0]:
            odd = next(iter({str(f) for f in fields} ^ {str(f) for f in columns[0]}), "")
            raise InputError(f"{file.path}: its other columns differ from those of {files[0].path} ({odd})")
    return columns[0]


def _selection(text: Text, recipe: Recipe) -> list[tuple[str, Rows]]:
    """Return the rows of each split that the recipe asks for, ascending."""
    total = min(text.rows, recipe.input.limit or text.rows)
    picked: Integers | None = None
    if (sample := recipe.input.sample) is not None and sample.rows < total:
        picked = np.array(sorted(random.Random(sample.seed).sample(range(total), sample.rows)), np.int64)
    runs: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
    for split, start, stop in text.split_runs():
        if start >= total:
            break
        stop = min(stop, total)
        if runs[split] and runs[split][-1][1] == start:
            start = runs[split].pop()[0]
        runs[split].append((start, stop))
    selection: list[tuple[str, Rows]] = []
    for split, found in runs.items():
        rows: Rows
        if picked is not None:
            parts = [picked[np.searchsorted(picked, start) : np.searchsorted(picked, stop)] for start, stop in found]
            rows = np.concatenate(parts) if parts else picked[:0]
        elif len(found) == 1:
            rows = range(*found[0])
        else:
            rows = np.concatenate([np.arange(*run, dtype=np.int64) for run in found]) if found else range(0)
        if len(rows):
            selection.append((split, rows))
    return selection


def _duplicates_among(duplicates: Integers, splits: Sequence[tuple[str, Rows]]) -> Integers:
    """Return the duplicates among the rows of `splits` alone: the first of these rows keeps the id."""
    picked = {int(row) for _, rows in splits for row in rows}
    owners: dict[int, int] = {}
    left = []
    for row, first in map(np.ndarray.tolist, duplicates):  # ascending
        if row in picked and (owner := owners.setdefault(first, first if first in picked else row)) != row:
            left.append((row, owner))
    return np.array(left, np.int64).reshape(-1, 2)


def _units(
    lang: str,
    text: Text,
    parallel_and_links: Sequence[Text | None],
    splits: Sequence[tuple[str, Rows]],
    unit_rows: int,
    duplicates: Integers,
) -> list[Unit]:
    """Cut the rows of each split into units."""
    stretches = text.stretches()
    beside = [one.stretches() if one is not None else [] for one in parallel_and_links]
    known_rows, known_words = words_before(stretches)
    units = []
    for split, all_rows in splits:
        for rows in chunks(all_rows, unit_rows):
            start, stop = int(rows[0]), int(rows[-1]) + 1
            whole = stop - start == len(rows)
            picked = None if whole else tuple(int(row) for row in rows)
            members = set(picked or ())
            wanted = rows if not whole else range(start, stop)
            parallel, links = (segments(wanted, found) if found else () for found in beside)
            near = duplicates[slice(*np.searchsorted(duplicates[:, 0], (start, stop)))].tolist()
            words = float(np.diff(np.interp([start, stop], known_rows, known_words))[0])
            units.append(
                Unit(
                    name=unit_name(lang, start),
                    lang=lang,
                    split=split,
                    start=start,
                    stop=stop,
                    picked=picked,
                    duplicates=tuple((row, first) for row, first in near if whole or row in members),
                    segments=segments(wanted, stretches),
                    parallel=parallel,
                    n_words=round(words * len(rows) / (stop - start)),
                    links=links,
                )
            )
    return sorted(units, key=lambda unit: unit.start) if len(splits) > 1 else units
