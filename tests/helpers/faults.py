"""Stages that raise on chosen rows, in runs of this process."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from xner_ray.data.row import accepted_rows, fill
from xner_ray.engine import inline
from xner_ray.errors import FatalError, Reason
from xner_ray.recipe.model import Recipe
from xner_ray.run.folder import RunFolder
from xner_ray.stage import Stage


class Faulty:
    """A stage that calls `check` with every row that it gets, which may raise, before it does its work."""

    def __init__(self, stage: Stage, check: Callable[[Mapping[str, Any]], None]) -> None:
        self.stage, self.check = stage, check

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stage, name)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = table.select(["row", "id"]).to_pylist()
        for index in accepted_rows(table):
            self.check(rows[index])
        return self.stage(table)


class Rejecting:
    """A stage that rejects rows, by their numbers, for reasons."""

    def __init__(self, stage: Stage, reasons: Mapping[int, Reason]) -> None:
        self.stage, self.reasons = stage, reasons

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stage, name)

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = dict(enumerate(table.column("row").to_pylist()))
        lost = {at: (self.reasons[row], "the test rejects it") for at, row in rows.items() if row in self.reasons}
        return fill(self.stage(table), {}, lost)


def in_stage(monkeypatch: pytest.MonkeyPatch, stage: str, check: Callable[[Mapping[str, Any]], None]) -> None:
    """Let every later run in this process call `check` in a stage. Rejected rows are not checked."""
    build = inline.build

    def faulty(name: str, recipe: Recipe) -> Any:
        return Faulty(build(name, recipe), check) if name == stage else build(name, recipe)

    monkeypatch.setattr(inline, "build", faulty)


def rejecting(monkeypatch: pytest.MonkeyPatch, stage: str, reasons: Mapping[int, Reason]) -> None:
    """Let every later run in this process reject rows in a stage, by their numbers."""
    build = inline.build

    def faulty(name: str, recipe: Recipe) -> Any:
        return Rejecting(build(name, recipe), reasons) if name == stage else build(name, recipe)

    monkeypatch.setattr(inline, "build", faulty)


@contextmanager
def ended_after_first_of_three(run: Path) -> Iterator[None]:
    """Let a run of three units in this process end with an error behind the first one."""
    make = inline._Run.make

    def first(self: Any, unit: Any, notice: Any) -> Any:
        if self.left < 3:
            raise FatalError("the test ends it here")
        return make(self, unit, notice)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inline._Run, "make", first)
        with pytest.raises(FatalError, match="the test ends it here"):
            yield
    assert len(RunFolder(str(run)).parts()) == 1
