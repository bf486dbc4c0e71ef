"""The index of an input: one scan that fixes the units, once, for this run and every later resume."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from xner_ray.data.kinds import SPLITS
from xner_ray.errors import InputError
from xner_ray.read.index.duplicates import Integers
from xner_ray.read.index.index import Index, Rejected
from xner_ray.read.index.scan import record_at
from xner_ray.read.index.survey import MapFiles, Survey, ids_folder
from xner_ray.read.index.units import Rows, Unit, chunks, grown_unit_rows, segments, unit_name, words_before
from xner_ray.read.inputs import Text, find_texts, input_of
from xner_ray.read.side import side
from xner_ray.recipe.model import Recipe

_UNLABELLED = "has no labels"


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
    once or twice to scan, a job a file or a piece of it, and once to compare ids, if there are any.
    unit_rows: that of an earlier index, whose units must stay as they are.
    folder: holds 24 bytes a row meanwhile; every job must reach it. None: a local one.
    compare: whether to look for duplicate ids.
    InputError for files that cannot be used, and for parallel text or links of another length than the input.
    """
    inputs, parallel, links = find_texts(recipe)
    texts = [*inputs.values(), *(text for beside in (parallel, links) for _, text in sorted(beside.items()))]
    train = recipe.direction == "train"
    entities_in = list((inputs if train else parallel).values()) if recipe.entities_given else []
    own = list(inputs.values())
    with ids_folder(folder) as ids:
        given = recipe.input
        survey = Survey(texts, entities_in, own if compare else [], given.limit, given.max_words, map_files, ids)
        survey.scan()
        duplicates = survey.duplicates()
    for text in inputs.values():
        if not text.rows:
            raise InputError(f"{text.described}: holds no sentence")
    for key, beside in (("parallel", parallel), ("links", links)):
        for lang, text in beside.items():
            _refuse_other_length(input_of(inputs, lang), text, recipe.input.limit, key)
    for text in entities_in:
        if not any(scan.labelled for scan in text.scans):
            raise _no_labels(text, recipe)
    extra = _extra(list(inputs.values()))
    labelled = list(dict.fromkeys([*inputs.values(), *entities_in]))
    found = sum((_renamed(text.labels, recipe.input.labels.rename) for text in labelled), Counter[str]())
    said = [line for text in texts for line in _row_notes(text)]
    said += _label_notes(labelled, recipe) if labelled and recipe.entities_given else []
    gold = {lang: _renamed(text.labels, recipe.input.labels.rename) for lang, text in parallel.items()}
    keep = recipe.input.labels.keep
    selections = {lang: _selection(input_of(inputs, lang), recipe) for lang in recipe.languages}
    sizes = [len(rows) for splits in selections.values() for _, rows in splits]
    unit_rows = unit_rows or grown_unit_rows(sizes, recipe.unit_rows)
    units: list[Unit] = []
    for lang, splits in selections.items():
        text = input_of(inputs, lang)
        repeated = duplicates.get(text.lang, np.empty((0, 2), np.int64))
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
        said=[*dict.fromkeys(line for text in texts for line in text.said), *said],
        rejects=[reject for number, text in enumerate(texts) for reject in _rejects(number, text, recipe)],
    )


def _row_notes(text: Text) -> list[str]:
    """Say how many rows of a text are not as the files have them."""
    mended, joined = (sum(getattr(scan, name) for scan in text.scans) for name in ("mended", "joined"))
    counted = [
        (mended, "with tokens that are no words as they stand: blanks are dropped, tokens with blanks inside are cut"),
        (joined, "are several sentences that an entity over their border holds together"),
    ]
    return [f"{text.described}: {n:,} row{'s' if n > 1 else ''} {what}" for n, what in counted if n]


def _no_labels(text: Text, recipe: Recipe) -> InputError:
    """Return the error of a text without labels: the first fault of its rows, or else what is there instead."""
    needed = "direction train" if recipe.direction == "train" else "tag.engine: provided"
    problem = f"{text.described}: has no labels (read as {text.files[0].format})"
    faulty = [one for one in _rejects(0, text, recipe) if not one.example.endswith(_UNLABELLED)]
    if faulty and "input.answers" not in text.unlabelled:
        first = faulty[0]
        return InputError(
            f"{problem} in rows that can be read; {first.rows:,} of {first.of:,} rows will be rejected: "
            f"{first.reason}; the first: {first.example}"
        )
    problem += f"; {needed} needs labels, or a tagger (tag.engine: builtin)"
    return InputError(problem + (f"; {text.unlabelled}" if text.unlabelled else ""))


def _label_notes(texts: Sequence[Text], recipe: Recipe) -> list[str]:
    """Say which labels of the recipe do not occur. InputError if rename or keep names none that does."""
    given = sum((text.labels for text in texts), Counter[str]())
    labels = recipe.input.labels
    renamed = _renamed(given, labels.rename)
    said = []
    for key, wanted, found in (("rename", list(labels.rename), given), ("keep", labels.keep or [], renamed)):
        missing = [label for label in wanted if label not in found]
        shown = ", ".join(f"{label} {count:,}" for label, count in found.most_common(20)) or "none"
        if given and wanted and len(missing) == len(wanted):
            raise InputError(
                f"input.labels.{key}: {', '.join(wanted)}: none of these occurs; labels found: {shown}"
                + (" (input.labels.rename maps them, as in {PERSON: PER})" if key == "keep" else "")
            )
        said += [f"input.labels.{key}: {', '.join(missing)} does not occur; labels found: {shown}"] if missing else []
    return said


def _rejects(number: int, text: Text, recipe: Recipe) -> Iterator[Rejected]:
    """Yield the rows of a text that will be rejected, by reason, the commonest first."""
    found: dict[str, tuple[int, str]] = {}
    for file, scan in zip(text.files, text.scans, strict=True):
        for reason, (count, row) in scan.rejects.items():
            known, example = found.get(reason, (0, ""))
            if not example:
                record = record_at(file, scan, row)
                made = side(record, file, recipe.input.labels, recipe.input.max_words)
                example = made.detail or f"{file.name}:{record.line}: {_UNLABELLED}"
            found[reason] = (known + count, example)
    for reason, (count, example) in sorted(found.items(), key=lambda item: -item[1][0]):
        yield Rejected(text.described, reason, count, text.rows, example, number)


def _renamed(counts: Counter[str], rename: Mapping[str, str]) -> Counter[str]:
    """Return the counts under the labels' new names; labels of one new name are added up."""
    renamed: Counter[str] = Counter()
    for label, count in counts.items():
        renamed[rename.get(label, label)] += count
    return renamed


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
    """Return the carried columns, which must be the same in every file; of objects some row must have them."""
    for text in texts:
        wanted = {name for file in text.files if file.format in ("jsonl", "json", "table") for name in file.carry or ()}
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
