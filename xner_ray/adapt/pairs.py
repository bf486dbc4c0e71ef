"""Sentence pairs of an adaptation, from finished runs and from parallel files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, zip_longest
from typing import Any

import pyarrow.parquet as pq

from xner_ray.adapt.recipe import Adaptation, Pairs
from xner_ray.errors import InputError
from xner_ray.read.find import find_files
from xner_ray.read.index.survey import settled
from xner_ray.read.inputs import stated_of
from xner_ray.read.record import File, Record
from xner_ray.read.records import read_records
from xner_ray.read.side import side
from xner_ray.recipe.input import Input, Labels
from xner_ray.run.folder import RunFolder
from xner_ray.run.repair import require_whole_files
from xner_ray.storage import files as storage
from xner_ray.translate.health import GARBLED

Pair = tuple[list[str], list[str]]  # source words, target words
_BATCH = 16_384


@dataclass
class Tally:
    """Counts of one origin: pairs read, kept, and dropped by reason; read = kept + the sum of dropped."""

    name: str
    langs: list[str]
    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        counts = {"pairs": self.name, "languages": self.langs, "read": self.read, "kept": self.kept}
        return {**counts, "dropped": dict(sorted(self.dropped.items()))}


def load(adaptation: Adaptation) -> tuple[list[Pair], list[int], list[Tally]]:
    """Return all pairs in order, the index of each pair's origin in `data`, and the tally of each origin.

    InputError, RunFolderError or StorageError if an origin cannot be read; InputError if no pair is left.
    """
    pairs: list[Pair] = []
    origins: list[int] = []
    tallies: list[Tally] = []
    for number, origin in enumerate(adaptation.data):
        tally = Tally(origin.name, [])
        found = _of_run(origin, tally) if origin.input is None else _of_files(origin.input, tally)
        before = len(pairs)
        pairs += found
        tally.kept = len(pairs) - before
        origins += [number] * tally.kept
        tallies.append(tally)
    if not pairs:
        counts = "; ".join(f"{tally.name}: {tally.read} read, {dict(tally.dropped)} dropped" for tally in tallies)
        raise InputError(f"data: no sentence pair is left ({counts})")
    return pairs, origins, tallies


def _of_run(origin: Pairs, tally: Tally) -> Iterator[Pair]:
    folder = RunFolder(str(origin.run))
    recipe = folder.recipe()
    folder.require_sealed()
    if missing := sorted(set(origin.langs or ()) - set(recipe.languages)):
        raise InputError(f"{folder.root}: has no language {missing[0]}; it has {', '.join(recipe.languages)}")
    langs = origin.langs or recipe.languages
    tally.langs = list(dict.fromkeys([recipe.source_side, *langs]))
    for lang in langs:
        for source, target, flags in islice(_rows(folder.published(lang)), origin.limit):
            tally.read += 1
            if not source or not target:
                tally.dropped["empty"] += 1
            elif GARBLED.intersection(flags or ()):
                tally.dropped["bad translation"] += 1
            else:
                yield source, target


def _rows(files: Iterable[str]) -> Iterator[tuple[list[str], list[str], list[str] | None]]:
    """Yield the words of both sides, and the flags, of each row."""
    for file in files:
        filesystem, inner = storage.locate(file)
        with filesystem.open_input_file(inner) as stream, pq.ParquetFile(stream) as parquet:
            for batch in parquet.iter_batches(batch_size=_BATCH, columns=["source_tokens", "tokens", "flags"]):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _of_files(given: Input, tally: Tally) -> Iterator[Pair]:
    path: Any = given.path
    lang = str(given.lang)
    tally.langs = [lang, *given.parallel]
    options: dict[str, Any] = {"columns": given.columns, "carried": False, "stated": stated_of(given)}
    most: dict[str, Any] = {"limit": given.limit, "max_words": given.max_words}
    files = settled(find_files(path, format=given.format, lang=lang, side="source", **options), **most)
    require_whole_files(files)
    for other, other_path in given.parallel.items():
        found = find_files(other_path, format=given.parallel_format, lang=other, side="target", **options)
        require_whole_files(found)
        beside = settled(found, **most)
        both = zip_longest(_records(files), _records(beside))
        for number, (own, its) in enumerate(islice(both, given.limit)):
            if own is None or its is None:
                longer, shorter = (other_path, given.path) if own is None else (given.path, other_path)
                raise InputError(f"{shorter} ends after {number} sentences, and {longer} does not; line i must be its "
                                 "translation on both sides")  # fmt: skip
            tally.read += 1
            sides = [side(record, file, Labels(), given.max_words) for record, file in (own, its)]
            reason = next((each.reason for each in sides if each.reason is not None), None)
            if reason is not None:
                tally.dropped[str(reason)] += 1
            else:
                yield sides[0].tokens or [], sides[1].tokens or []


def _records(files: list[File]) -> Iterator[tuple[Record, File]]:
    for file in files:
        for _, record in read_records(file):
            yield record, file
