import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from made_rows import table_from_rows

from xner_ray.data import row as data_row
from xner_ray.engine.crashes import CrashCounter
from xner_ray.engine.guard import run_stage
from xner_ray.errors import DeviceError, FatalError, Flag, Reason
from xner_ray.stage import LastResult


class FakeStage:
    """A stage whose work is the function given; it fills `text`."""

    name = "fake"
    tokens = 0
    model_seconds = 0.0

    def __init__(self, work: Callable[["FakeStage", pa.Table], None], budget: int = 1024, tokens: int = 1) -> None:
        self.work, self.tokens_of_row = work, tokens
        self.micro_batch_tokens = budget
        self.calls: list[int] = []

    def __call__(self, table: pa.Table) -> pa.Table:
        self.calls.append(table.num_rows)
        self.work(self, table)
        self.tokens += self.tokens_of_row * table.num_rows
        return data_row.fill(table, {"text": dict.fromkeys(data_row.accepted_rows(table), "done")})


def _table(n_rows: int, rejected: int | None = None) -> pa.Table:
    rows = [{"row": n, "id": str(n), "status": "rejected" if n == rejected else "ok"} for n in range(n_rows)]
    return table_from_rows(rows, data_row.row_schema())


@pytest.mark.parametrize("poison", [0, 3, 6])
def test_a_poison_row_is_found_and_its_neighbours_are_saved(poison: int) -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        if poison in [table.column("row")[index].as_py() for index in data_row.accepted_rows(table)]:
            raise ValueError(f"row {poison} is bad")

    result, stats = run_stage(FakeStage(work), _table(7))
    assert result.column("row").to_pylist() == list(range(7))
    assert [r for r, s in enumerate(result.column("status").to_pylist()) if s == "rejected"] == [poison]
    row = result.to_pylist()[poison]
    assert (row["reason"], row["detail"]) == ("stage_error", f"fake: ValueError: row {poison} is bad")
    others = [r for r in result.to_pylist() if r["row"] != poison]
    assert all(r["text"] == "done" and r["flags"] == [Flag.BISECTED] for r in others)
    assert stats.rejects == {"stage_error": 1}
    assert stats.rows == 7


@pytest.mark.parametrize(("tokens", "flags"), [(0, None), (1, [Flag.BISECTED])])
def test_neighbours_of_poison_are_flagged_where_a_model_read_them(tokens: int, flags: list[Flag] | None) -> None:
    """Their micro-batches are others than without poison; a stage that reads no tokens works row by row."""

    def work(stage: FakeStage, table: pa.Table) -> None:
        if {3, 20, 21} & {table.column("row")[index].as_py() for index in data_row.accepted_rows(table)}:
            raise ValueError("poison")

    undisturbed, _ = run_stage(FakeStage(lambda stage, table: None, tokens=tokens), _table(40, rejected=5))
    stage = FakeStage(work, tokens=tokens)
    result, _ = run_stage(stage, _table(40, rejected=5))
    assert stage.calls[-1] == 40
    for row, expected in zip(result.to_pylist(), undisturbed.to_pylist(), strict=True):
        if row["row"] in (3, 20, 21):
            assert (row["detail"], row["flags"]) == ("fake: ValueError: poison", None)
        else:
            assert row == {**expected, "flags": None if row["row"] == 5 else flags}


def test_an_error_that_no_row_alone_has_is_no_row_s_fault() -> None:
    """It passes when the call is made again, or else in pieces."""

    def once(stage: FakeStage, table: pa.Table) -> None:
        if len(stage.calls) == 1:
            raise OSError("for a moment")

    result, stats = run_stage(FakeStage(once), _table(6))
    assert result.column("status").to_pylist() == ["ok"] * 6
    assert result.column("flags").to_pylist() == [None] * 6
    assert stats.rejects == {}

    def too_many(stage: FakeStage, table: pa.Table) -> None:
        if table.num_rows > 2:
            raise ValueError("too many")

    result, stats = run_stage(FakeStage(too_many), _table(7))
    assert result.column("text").to_pylist() == ["done"] * 7
    assert result.column("flags").to_pylist() == [[Flag.BISECTED]] * 7
    assert stats.rejects == {}


def test_a_rejected_row_that_makes_a_stage_raise_costs_no_other_its_place() -> None:
    """Stages read the source side of rows that one language has rejected, too."""

    def work(stage: FakeStage, table: pa.Table) -> None:
        if 5 in table.column("row").to_pylist():
            raise ValueError("row 5 is bad")

    result, stats = run_stage(FakeStage(work), _table(9, rejected=5))
    assert stats.rejects == {}
    expected = [("rejected", None, None) if n == 5 else ("ok", "done", [Flag.BISECTED]) for n in range(9)]
    assert [(row["status"], row["text"], row["flags"]) for row in result.to_pylist()] == expected
    assert result.column("row").to_pylist() == list(range(9))


def test_a_rejected_row_that_kills_costs_no_other_its_place(tmp_path: Path) -> None:
    class DiedError(BaseException):
        """The end of a process."""

    def work(stage: FakeStage, table: pa.Table) -> None:
        if 2 in table.column("row").to_pylist():
            raise DiedError

    crashes = CrashCounter(str(tmp_path))
    result, stats = run_stage(FakeStage(work), _table(4, rejected=2), crashes, "unit")
    assert stats.rejects == {}
    assert result.column("row").to_pylist() == list(range(4))
    assert result.column("text").to_pylist() == ["done", "done", None, "done"]


def test_what_is_remembered_has_the_flags_of_what_was_read() -> None:
    """Of two units with one source side the second is read again, where memory had run out or a row was poison."""

    class Remembering(FakeStage):
        def __init__(self, work: Callable[[FakeStage, pa.Table], None]) -> None:
            super().__init__(work, budget=64)
            self.remembered: LastResult[list[int], None] = LastResult()
            self.forget = self.remembered.forget

        def __call__(self, table: pa.Table) -> pa.Table:
            self.remembered.of(table.column("row").to_pylist(), lambda rows: self.work(self, table))
            return data_row.fill(table, {"text": dict.fromkeys(data_row.accepted_rows(table), "done")})

    def full(stage: FakeStage, table: pa.Table) -> None:
        if stage.micro_batch_tokens > 32:
            raise torch.OutOfMemoryError("CUDA out of memory")
        stage.tokens += table.num_rows

    stage = Remembering(full)
    for _ in range(2):
        result, _ = run_stage(stage, _table(2))
        assert result.column("flags").to_pylist() == [[Flag.MEMORY_HALVED]] * 2

    def poisoned(stage: FakeStage, table: pa.Table) -> None:
        if 0 in table.column("row").to_pylist() and table.column("status")[0].as_py() == "ok":
            raise ValueError("row 0 is bad")
        stage.tokens += table.num_rows

    result, _ = run_stage(Remembering(poisoned), _table(2))
    assert result.column("flags").to_pylist() == [None, [Flag.BISECTED]]


def test_a_stage_that_raises_on_many_rows_is_broken() -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        raise TypeError("no such thing")

    stage = FakeStage(work)
    with pytest.raises(
        FatalError, match=r"fake raises on more than 25 of the 200 rows .*; '0': fake: TypeError: no such"
    ):
        run_stage(stage, _table(200))
    assert len(stage.calls) < 100


def test_rejected_rows_pass_untouched_and_are_no_work() -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        pass

    result, stats = run_stage(FakeStage(work), _table(3, rejected=1))
    assert result.to_pylist()[1] == _table(3, rejected=1).to_pylist()[1]
    assert stats.rows == 2
    assert stats.tokens == 3


def test_out_of_memory_halves_the_budget_for_this_unit_and_those_that_follow() -> None:
    budgets = []

    def work(stage: FakeStage, table: pa.Table) -> None:
        budgets.append(stage.micro_batch_tokens)
        if stage.micro_batch_tokens > 300:
            raise torch.OutOfMemoryError("CUDA out of memory")

    stage = FakeStage(work)
    for expected in ([1024, 512, 256], [256]):
        result, _ = run_stage(stage, _table(4, rejected=1))
        assert budgets == expected
        budgets.clear()
        assert result.column("flags").to_pylist() == [[Flag.MEMORY_HALVED], None, *[[Flag.MEMORY_HALVED]] * 2]
    result, _ = run_stage(FakeStage(work, budget=256), _table(4))
    assert result.column("flags").to_pylist() == [None] * 4


@pytest.mark.parametrize("fails", ["at once", "on a row", "on each row"])
def test_nothing_of_a_failed_call_is_alive_when_the_next_begins(fails: str) -> None:
    """Of a model that ran out of memory, or that raised: what its frames held is free."""
    alive: list[weakref.ref[torch.Tensor]] = []

    def forward(rows: list[int]) -> None:
        cache = torch.zeros(1000)
        alive.append(weakref.ref(cache))
        try:
            raise KeyError("as in a library that hides one error behind another")
        except KeyError:
            if fails == "at once" and len(alive) < 3:
                raise torch.OutOfMemoryError("CUDA out of memory") from None
            if (fails == "on a row" and 2 in rows) or (fails == "on each row" and len(rows) == 4 and len(alive) < 3):
                raise ValueError("bad row")  # noqa: B904  the context is what the test is about

    def work(stage: FakeStage, table: pa.Table) -> None:
        assert not [one for one in alive if one() is not None]
        forward([table.column("row")[index].as_py() for index in data_row.accepted_rows(table)])

    gc.disable()
    try:
        result, _ = run_stage(FakeStage(work), _table(4))
    finally:
        gc.enable()
    assert result.num_rows == 4 and len(alive) >= 3


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        torch.AcceleratorError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: uncorrectable ECC error encountered"),
        RuntimeError("CUDA failed with error unspecified launch failure"),
        RuntimeError("cuBLAS failed with status CUBLAS_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_sick_device_is_no_row_s_fault(error: Exception) -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        raise error

    stage = FakeStage(work)
    with pytest.raises(DeviceError, match=r"^the device of stage fake fails: c?u?[Cc].*new process$"):
        run_stage(stage, _table(12))
    assert stage.calls == [12]


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "[enforce fail at alloc_cpu.cpp:126] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
    ],
)
def test_memory_that_runs_out_is_told_by_what_libraries_say(text: str) -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        if stage.micro_batch_tokens == 1024:
            raise torch.AcceleratorError(text) if text.startswith("CUDA error: out") else RuntimeError(text)

    result, _ = run_stage(FakeStage(work), _table(2))
    assert result.column("flags").to_pylist() == [[Flag.MEMORY_HALVED]] * 2


def test_an_error_that_comes_late_is_the_device_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """CUDA reports at another call than the one that failed; asked again, the device says so."""

    def synchronize() -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    def work(stage: FakeStage, table: pa.Table) -> None:
        raise ValueError("rubbish came from the device")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(DeviceError, match="unspecified launch failure"):
        run_stage(FakeStage(work), _table(3))


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
            return data_row.fill(table, {}, {0: (Reason.TRANSLATION_EMPTY, ""), 2: (Reason.TRANSLATION_EMPTY, "")})

    _, stats = run_stage(Rejecting(lambda stage, table: None), _table(3))
    assert stats.rejects == {"translation_empty": 2}


def test_seconds_in_the_model_are_those_of_the_call() -> None:
    def work(stage: FakeStage, table: pa.Table) -> None:
        stage.model_seconds += 0.5

    stage = FakeStage(work)
    stage.model_seconds = 7.0  # of units before
    _, stats = run_stage(stage, _table(3))
    assert stats.model_seconds == 0.5
