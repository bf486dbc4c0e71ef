"""Random damage to files of every format: read with every row accounted for, or refused with one clear message.

XNER_FUZZ sets how many lines and records are damaged, XNER_SEED the seed; `make test-long` does fewer than `make fuzz`.
XNER_CASE repeats one case of a format, as the message of a failure says.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fuzz_objects import SEEDS
from fuzz_seeds import Seed, sentences
from mutations import mutated, zipped
from reading import to_test, to_train

from xner_ray.data.row import OK, REJECTED
from xner_ray.data.spans import Span, outermost
from xner_ray.errors import InputError, Reason, RecipeError, StorageError
from xner_ray.read.index import scan as scanning
from xner_ray.read.index.build import build_index
from xner_ray.read.index.index import Index
from xner_ray.read.record import refused
from xner_ray.read.records import FORMATS
from xner_ray.read.rows import ReadPlan, read_rows, read_unit
from xner_ray.recipe.model import Recipe
from xner_ray.write import conll, jsonl

N_DAMAGED = int(os.environ.get("XNER_FUZZ", "16000"))
SEED = int(os.environ.get("XNER_SEED", random.randrange(10**6)))
CASE = os.environ.get("XNER_CASE")
PATIENCE_SECONDS = 20  # of CPU time for one file
MOST_FAILURES = int(os.environ.get("XNER_FAILURES", "3"))
REFUSALS = (InputError, RecipeError, StorageError)
Row = dict[str, Any]


class HangError(BaseException):
    """A file took too long."""


@contextmanager
def watched() -> Iterator[None]:
    """Raise HangError in code that takes too much CPU time."""

    def stop(*_: object) -> None:
        raise HangError(f"more than {PATIENCE_SECONDS} seconds of CPU time")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@dataclass
class Case:
    """One damaged file: where it is, and how a recipe reads it."""

    format: str
    number: int
    folder: Path
    rng: random.Random = field(init=False)
    damaged: int = field(init=False, default=0)
    seed: Seed = field(init=False)
    path: Path = field(init=False)  # of the damaged file

    def __post_init__(self) -> None:
        rng = self.rng = random.Random(f"{SEED}-{self.format}-{self.number}")
        found = sentences(rng, rng.choice((1, 3, 20, 40, 40, 120)))
        self.seed = SEEDS[self.format](found, rng)
        others = [name for name in SEEDS if name not in ("links", "brat", "run")]
        data, self.damaged = mutated(rng, self.seed, lambda: SEEDS[rng.choice(others)](found, rng))
        self.path = self.folder / self.seed.name
        plain = self.format not in ("run", "dataset", "links", "brat", "spacy", "parquet")
        if plain and rng.random() < 0.05:
            self.path, data = self.path.with_name(self.path.name + ".gz"), zipped(rng, data)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(data)
        for name, content in self.seed.beside.items():
            if self.format in ("brat", "dataset") and rng.random() < 0.2:
                text = content.decode()
                of_json = name.endswith(".json") and rng.random() < 0.7
                seed = Seed(name, values=[json.loads(text)]) if of_json else Seed(name, text.splitlines(keepends=True))
                content, more = mutated(rng, seed, lambda: self.seed)
                content = content.strip(b"[]\n ") if of_json else content
                self.damaged += more
            (self.folder / name).write_bytes(content)

    def recipe(self) -> Recipe:
        rng, form = self.rng, self.format
        given: dict[str, Any] = dict(self.seed.options)
        if rng.random() < 0.6 and form != "links":
            given["format"] = form
        if form == "run":
            given["format"] = "run"
        if rng.random() < 0.1:
            given["max_words"] = 4
        options: dict[str, Any] = {"unit_rows": rng.choice((5, 40, 2048)), "input": given}
        path = self.folder if form in ("run", "dataset") else self.path
        if form == "links":
            given |= {"parallel": {"spa_Latn": str(self.folder / "t.txt")}, "links": str(self.path)}
            options["align"] = {"backend": "provided"}
            path = self.folder / "s.conll"
        elif form == "text" or rng.random() < 0.3:
            return to_test(path, **options)
        return to_train(path, **options)


@dataclass
class Tally:
    """What became of the damaged files of one format."""

    files: int = 0
    damaged: int = 0
    refused: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    written: int = 0  # rows that were written and read again
    failures: dict[str, str] = field(default_factory=dict)  # by place

    def __str__(self) -> str:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in self.rows.most_common())
        read = f"{self.refused:,} refused; {sum(self.rows.values()):,} rows ({reasons})"
        return f"{self.damaged:,} damaged in {self.files:,} files: {read}; {self.written:,} rows written and read again"


@pytest.mark.long
@pytest.mark.timeout(0)
@pytest.mark.parametrize("format", SEEDS)
def test_every_row_is_accounted_for(tmp_path: Path, format: str) -> None:
    tally, began = Tally(), time.process_time()
    number = int(CASE or 0)
    while tally.damaged < N_DAMAGED / len(SEEDS) and len(tally.failures) < MOST_FAILURES:
        folder = tmp_path / str(number)
        folder.mkdir()
        case = Case(format, number, folder)
        try:
            with watched():
                account(case, tally)
        except (Exception, HangError) as error:
            lines = traceback.format_exception(error)
            place = lines[-2] if len(lines) > 1 else ""
            shown = "".join(lines[-3:])[:3000]
            tally.failures.setdefault(place, f"XNER_SEED={SEED} XNER_CASE={number} -k {format} ({folder})\n{shown}")
        else:
            shutil.rmtree(folder)
        tally.files, tally.damaged, number = tally.files + 1, tally.damaged + case.damaged, number + 1
        if CASE:
            break
    shown = f"{format}: {time.process_time() - began:.0f} s; {tally}"
    print(f"\n{shown}", file=sys.stderr)
    if tally.failures:
        pytest.fail("\n\n".join(tally.failures.values()), pytrace=False)


def test_every_format_is_damaged() -> None:
    assert set(SEEDS) == set(FORMATS)


def account(case: Case, tally: Tally) -> None:
    """Read a damaged file, whole and in pieces, by columns and by rows; raise where anything is left open."""
    recipe = case.recipe()
    grid = case.rng.choice((16, 256, 1 << 14))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "GRID_BYTES", grid)
        whole = index_of(recipe)
        size = case.path.stat().st_size // case.rng.choice((2, 3, 8))
        patch.setattr(scanning, "PIECE_BYTES", grid * max(1, size // grid))
        pieces = index_of(recipe)
    assert pieces == whole, "another index if the file is cut in pieces"
    if not isinstance(whole, Index):
        tally.refused += 1
        refused_clearly(whole, case)
        return
    again = Index.from_table(whole.to_table()).bound(recipe)
    assert again == whole, "another index out of its table"
    plan = ReadPlan(recipe, whole.extra)
    try:
        tables = [read_unit(unit, plan) for unit in whole.units]
        by_row = [read_rows(unit, plan) for unit in whole.units]
    except InputError as error:  # a damaged page of a column that the scan has no need of
        assert case.seed.table is not None, "refused after it was indexed"
        tally.refused += 1
        refused_clearly(str(error), case)
        return
    for unit, table, other in zip(whole.units, tables, by_row, strict=True):
        assert table.num_rows == unit.n_rows
        same = table.equals(other) or repr(table.to_pylist()) == repr(other.to_pylist())  # NaN equals nothing
        assert same, f"other rows by columns: {first_difference(table, other)}"
    rows = pa.concat_tables(tables).to_pylist()
    side = "source_" if recipe.direction == "train" else ""
    for row in rows:
        accounted(row, side, case)
        tally.rows[row["reason"] or row["status"]] += 1
    assert sorted(row["row"] for row in rows) == list(range(len(rows))) and len(rows) == sum(whole.n_rows.values())
    good = [row for row in rows if row["status"] == OK]
    assert len({(row["split"], row["id"]) for row in good}) == len(good), "two rows of a split have one id"
    foreseen(whole, rows, case)
    if case.rng.random() < 0.2 and good:
        tally.written += written_and_read(good, side, case)


def index_of(recipe: Recipe) -> Index | str:
    try:
        return build_index(recipe)
    except REFUSALS as error:
        return str(error)


def refused_clearly(message: str, case: Case) -> None:
    """Fail unless a message is one line of printable text that names the file."""
    names = {case.path.name, case.path.stem, *case.seed.beside, case.folder.name}
    assert any(name in message for name in names), f"the message names no file: {message!r}"
    assert 10 < len(message) < 1500, f"{len(message)} characters: {message[:300]!r}"
    assert message.isprintable(), f"not printable: {message!r}"


def accounted(row: Row, side: str, case: Case) -> None:
    """Fail unless a row is whole: rejected with a reason and a detail, or with words, their places, and its spans."""
    assert row["status"] in (OK, REJECTED) and row["id"]
    if row["status"] == REJECTED:
        assert Reason(row["reason"])
        assert row["detail"].isprintable() and len(row["detail"]) < 1000, f"detail {row['detail'][:500]!r}"
        return
    assert row["reason"] is None and row["detail"] is None
    text, tokens, offsets = (row[f"{side}{name}"] for name in ("text", "tokens", "offsets"))
    assert tokens and all(token.strip() and token.split() == [token] for token in tokens), f"tokens {tokens}"
    assert [text[place["start"] : place["end"]] for place in offsets] == tokens
    spans = row["source_spans"] if side else row["gold_spans"]
    assert spans is not None or not side, "no labels"
    for span in spans or ():
        assert 0 <= span["start"] < span["end"] <= len(tokens)
        assert span["label"] and span["label"] == span["label"].strip() and not refused(span["label"], name=True)


def foreseen(index: Index, rows: list[Row], case: Case) -> None:
    """Fail unless the scan has foreseen how many rows are rejected, for what, and the first of each."""
    if case.format == "links":
        return  # what a link counts is known once both sides are read
    details: dict[str, list[str]] = {}
    for row in rows:
        if row["status"] == REJECTED and row["reason"] != Reason.DUPLICATE_ID:
            details.setdefault(row["reason"], []).append(row["detail"])
    told = {str(one.reason): one.rows for one in index.rejects}
    found = {reason: len(all_) for reason, all_ in details.items()}
    assert told == found, f"foreseen {told}, found {found}: {[details[one][0] for one in found.keys() - told.keys()]}"
    for one in index.rejects:
        assert one.example in details[one.reason], f"{one.example!r} is no detail of {one.reason}"


def written_and_read(rows: list[Row], side: str, case: Case) -> int:
    """Write good rows and read them again; fail unless they are the same."""
    published = []
    for row in rows:
        spans = (row["source_spans"] if side else row["gold_spans"]) or []
        places, _ = outermost([Span(span["start"], span["end"], span["label"]) for span in spans])
        spans = [{**vars_of(span), "source": number} for number, span in enumerate(places)]
        own = {name: row[f"{side}{name}"] for name in ("text", "tokens", "offsets")}
        published.append({"id": row["id"], "lang": "eng_Latn", "source_text": "", **own, "spans": spans})
    for form, write in (("conll", conll.write), ("jsonl", jsonl.write)):
        kept, parts = [], []
        for row in published:
            try:
                parts += list(write([row]))
            except InputError:
                continue  # what CoNLL cannot hold
            kept.append(row)
        if len(kept) < 2:  # one sentence of a hundred words is no file of CoNLL
            continue
        if form == "conll" and all(re.match("[a-z]{2,3}:", token) for row in kept for token in row["tokens"]):
            continue  # WikiANN's prefix twice, of which one was left out
        path = case.folder / f"again.{form}"
        path.write_text("".join(parts), "utf-8")
        given = {"format": form, "columns": {"tags": "tags"}} if form == "jsonl" else {"format": form}
        recipe = to_train(path, input=given)
        index = build_index(recipe)
        again = [row for unit in index.units for row in read_unit(unit, ReadPlan(recipe, index.extra)).to_pylist()]
        assert len(again) == len(kept), f"{form}: {len(again)} of {len(kept)} rows"
        for row, copy in zip(kept, again, strict=True):
            assert copy["status"] == OK, f"{form}: {copy['detail']}"
            assert copy["source_tokens"] == row["tokens"], f"{form}: {row['tokens']}"
            want = [(span["start"], span["end"], span["label"]) for span in row["spans"]]
            found = [(span["start"], span["end"], span["label"]) for span in copy["source_spans"]]
            assert found == want, f"{form}: {row['tokens']} {index.said}"
            assert form == "conll" or (copy["source_text"], copy["id"]) == (row["text"], row["id"])
    return len(rows)


def vars_of(span: Span) -> dict[str, Any]:
    return {"start": span.start, "end": span.end, "label": span.label, "score": 1.0}


def first_difference(table: pa.Table, other: pa.Table) -> str:
    for one, two in zip(table.to_pylist(), other.to_pylist(), strict=True):
        for name in one:
            if repr(one[name]) != repr(two[name]):
                return f"row {one['row']}, {name}: {one[name]!r} and row by row {two[name]!r}"
    return "none"
