from collections.abc import Callable

import pyarrow as pa
import pytest
import torch

from xner_ray import schema
from xner_ray.errors import FatalError, Reason
from xner_ray.guard import BISECTED, HALVED, run_stage


class FakeStage:
    """A stage whose work is the function given; it fills `text`."""

    name = "fake"
    tokens = 0

    def __init__(self, work: Callable[["FakeStage", pa.Table], None], budget: int = 1024) -> None:
        self.work = work
        self.micro_batch_tokens = budget
        self.calls: list[int] = []

    def __call__(self, table: pa.Table) -> pa.Table:
        self.calls.append(table.num_rows)
        self.work(self, table)
        self.tokens += table.num_rows
        return schema.fill(table, {"text": dict.fromkeys(schema.live(table), "done")})


def _table(n_rows: int, rejected: int | None = None) -> pa.Table:
    rows = [{"row": n, "id": str(n), "status": "rejected" if n == rejected else "ok"} for n in range(n_rows)]
    return schema.table_from_rows(rows, schema.row_schema())


@pytest.mark.parametrize("poison", [0, 3, 6])
def test_a_poison_row_is_found_and_its_neighbours_are_saved(poison: int) -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        if poison in table.column("row").to_pylist():
            raise ValueError(f"row {poison} is bad")

    result, stats = run_stage(FakeStage(work), _table(7))
    assert result.column("row").to_pylist() == list(range(7))
    assert [r for r, s in enumerate(result.column("status").to_pylist()) if s == "rejected"] == [poison]
    row = result.to_pylist()[poison]
    assert (row["reason"], row["detail"]) == ("stage_error", f"fake: ValueError: row {poison} is bad")
    others = [r for r in result.to_pylist() if r["row"] != poison]
    assert all(r["text"] == "done" and r["flags"] == [BISECTED] for r in others)
    assert stats.rejects == {"stage_error": 1}
    assert stats.rows == 7


def test_rejected_rows_pass_untouched_and_are_no_work() -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        pass

    result, stats = run_stage(FakeStage(work), _table(3, rejected=1))
    assert result.to_pylist()[1] == _table(3, rejected=1).to_pylist()[1]
    assert stats.rows == 2
    assert stats.tokens == 3


def test_out_of_memory_halves_the_budget_for_this_unit_only() -> None:
    budgets = []

    def work(stage: FakeStage, table: pa.Table) -> None:
        budgets.append(stage.micro_batch_tokens)
        if stage.micro_batch_tokens > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")

    stage = FakeStage(work)
    result, _ = run_stage(stage, _table(4))
    assert budgets == [1024, 512, 256]
    assert stage.micro_batch_tokens == 1024
    assert result.column("flags").to_pylist() == [[HALVED]] * 4


def test_out_of_memory_without_end_is_fatal() -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(FatalError, match="runs out of memory on micro-batches of"):
        run_stage(FakeStage(work), _table(2))


def test_fatal_errors_pass_at_once() -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        raise FatalError("no row can succeed")

    stage = FakeStage(work)
    with pytest.raises(FatalError, match="no row can succeed"):
        run_stage(stage, _table(4))
    assert stage.calls == [4]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda table: table.slice(1),  # lost
        lambda table: pa.concat_tables([table, table.slice(0, 1)]),  # twice
        lambda table: table.take(pa.array([1, 0, 2])),  # moved
        lambda table: table.drop_columns(["links"]),
    ],
)
def test_a_stage_that_loses_doubles_or_moves_rows_is_fatal(break_it: Callable[[pa.Table], pa.Table]) -> None:
    class Broken(FakeStage):
        def __call__(self, table: pa.Table) -> pa.Table:
            return break_it(table)

    with pytest.raises(FatalError, match="did not return every row exactly once"):
        run_stage(Broken(lambda stage, table: None), _table(3))


def test_reject_by_stage_is_counted_by_reason() -> None:
    class Rejecting(FakeStage):
        def __call__(self, table: pa.Table) -> pa.Table:
            return schema.fill(table, {}, {0: (Reason.TRANSLATION_EMPTY, ""), 2: (Reason.TRANSLATION_EMPTY, "")})

    _, stats = run_stage(Rejecting(lambda stage, table: None), _table(3))
    assert stats.rejects == {"translation_empty": 2}
