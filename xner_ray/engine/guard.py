"""One call of one stage on one unit, made safe: every row comes back exactly once, whatever the stage does.

Out of memory on the device halves the stage's micro-batches and calls again. A row that makes the stage raise is found
by bisection and rejected; then the stage is called again without it, in the same micro-batches (`recall.py`), so that
its neighbours have the bytes that they would have had. Where that cannot be, the rows say so in `flags`. A stage that
raises on many rows of a unit is broken, and no row is at fault: FatalError. `FatalError` and `RetryableError` pass: the
first ends the run, the second is Ray's to retry. A row that kills the process is found in the same way, but by those
that come after: `crashes.py` tells them which piece of the unit the dead were at.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

import pyarrow as pa

from xner_ray.data.row import REJECTED, accepted_rows, fill, frequencies, rejected
from xner_ray.engine.crashes import DYING, CrashCounter
from xner_ray.errors import FatalError, Flag, Reason, XnerError
from xner_ray.stage import Stage

_SMALLEST_BUDGET = 16
_ROUNDS = 3  # of looking for poison rows, for a stage that raises again without those that it raised on
_FEW = 16  # rows of one unit may raise, whatever its size


@dataclass
class StageStats:
    """What one stage did to one unit."""

    rows: int = 0  # that were not rejected when it began
    seconds: float = 0.0
    tokens: int = 0
    model_seconds: float = 0.0  # of `seconds`, those inside the model
    rejects: dict[str, int] = field(default_factory=dict)  # new ones, by reason


def run_stage(
    stage: Stage, table: pa.Table, crashes: CrashCounter | None = None, unit: str = ""
) -> tuple[pa.Table, StageStats]:
    """The stage's output for the same rows, and what it did. FatalError if it lost, added or moved a row.

    With `crashes`, which counts the deaths at pieces of this `unit`, the stage gets it in pieces that kill nobody.
    """
    started, tokens, model_seconds = time.perf_counter(), stage.tokens, stage.model_seconds
    result = _attempt(stage, table) if crashes is None else _flag(_survive(stage, table, crashes, unit), Flag.BISECTED)
    before = rejected(table)
    new = pa.array(rejected(result) & ~before)
    stats = StageStats(
        rows=int((~before).sum()),
        seconds=time.perf_counter() - started,
        tokens=stage.tokens - tokens,
        model_seconds=stage.model_seconds - model_seconds,
        rejects=frequencies(result.column("reason").filter(new)),
    )
    return result, stats


class _OutOfMemoryError(Exception):
    """The device's, whatever library says so."""


def _attempt(stage: Stage, table: pa.Table) -> pa.Table:
    if stage.recall is not None:
        stage.recall.first()
    try:
        try:
            return _once(stage, table)
        except (XnerError, _OutOfMemoryError):
            raise
        except Exception as error:  # whatever a model or a library raises is this row's fault, or no row's
            return _isolate(stage, table, error)
    except _OutOfMemoryError as error:
        return _halve(stage, table, error)


def _once(stage: Stage, table: pa.Table) -> pa.Table:
    try:
        result = stage(table)
    except RuntimeError as error:
        torch = sys.modules.get("torch")  # a stage without a model must not pay for its import
        if torch is None or not isinstance(error, torch.OutOfMemoryError):
            raise
        raise _OutOfMemoryError(str(error)) from error
    return _checked(stage, table, result)


def _checked(stage: Stage, before: pa.Table, after: pa.Table) -> pa.Table:
    if not after.schema.equals(before.schema) or not after.column("row").equals(before.column("row")):
        raise FatalError(f"stage {stage.name} did not return every row exactly once, in order, with its schema")
    return after


def _halve(stage: Stage, table: pa.Table, error: _OutOfMemoryError) -> pa.Table:
    budget = stage.micro_batch_tokens
    if budget // 2 < _SMALLEST_BUDGET:
        raise FatalError(
            f"stage {stage.name} runs out of memory on micro-batches of {budget} tokens: {error}"
        ) from error
    import torch

    torch.cuda.empty_cache()
    stage.micro_batch_tokens = budget // 2
    try:
        return _flag(_attempt(stage, table), Flag.MEMORY_HALVED)
    finally:
        stage.micro_batch_tokens = budget  # or the next unit's bytes would depend on this one


def _isolate(stage: Stage, table: pa.Table, error: Exception) -> pa.Table:
    """The table with the rows that make the stage raise rejected, and all others as if these had done no harm."""
    found: dict[int, Exception] = {}
    for _ in range(_ROUNDS):
        known = set(found)
        if stage.recall is not None:
            stage.recall.probe()
        _find_poison(stage, table, accepted_rows(table), error, found)
        new = {row: (Reason.STAGE_ERROR, _said(stage, found[row])) for row in found.keys() - known}
        table = fill(table, {}, new)
        if stage.recall is not None:
            stage.recall.again()
        try:
            result = _once(stage, table)
        except (XnerError, _OutOfMemoryError):
            raise
        except Exception as again:
            error = again
            continue
        return result if stage.recall is None or stage.recall.exact else _flag(result, Flag.BISECTED)
    if stage.recall is not None:
        stage.recall.probe()
    return _flag(_in_pieces(stage, table, error), Flag.BISECTED)


def _find_poison(stage: Stage, table: pa.Table, rows: list[int], error: Exception, found: dict[int, Exception]) -> None:
    """Adds to `found` those of `rows` on which alone the stage raises, by halves; `error` is what it raises on all.

    FatalError if they are too many.
    """
    if len(rows) <= 1:
        found.update(dict.fromkeys(rows, error))
        if len(found) > max(_FEW, table.num_rows // 8):
            raise FatalError(
                f"stage {stage.name} raises on more than {len(found) - 1} of the {table.num_rows} rows of a unit: the "
                f"stage is at fault; {table.column('id')[min(found)].as_py()!r}: {_said(stage, found[min(found)])}"
            ) from error
        return
    for half in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        try:
            _once(stage, table.take(pa.array(half)))
        except (XnerError, _OutOfMemoryError):
            raise
        except Exception as cause:
            _find_poison(stage, table, half, cause, found)


def _in_pieces(stage: Stage, table: pa.Table, error: Exception) -> pa.Table:
    """Rows that pass alone and not together: as large pieces as pass; what fails alone is rejected."""
    rows = accepted_rows(table)
    if len(rows) <= 1:
        return fill(table, {}, dict.fromkeys(rows, (Reason.STAGE_ERROR, _said(stage, error))))
    pieces = []
    for piece in (table.slice(0, rows[len(rows) // 2]), table.slice(rows[len(rows) // 2])):
        try:
            pieces.append(_once(stage, piece))
        except (XnerError, _OutOfMemoryError):
            raise
        except Exception as cause:
            pieces.append(_in_pieces(stage, piece, cause))
    return pa.concat_tables(pieces).combine_chunks()


def _survive(stage: Stage, table: pa.Table, crashes: CrashCounter, unit: str) -> pa.Table:
    """As large pieces as no process has died of; a row of which alone two have died is rejected."""
    rows = accepted_rows(table)
    numbers = table.column("row")
    piece = f"{unit} {stage.name} {numbers[0]}-{numbers[-1]}"
    if crashes.deaths(piece) < (1 if len(rows) > 1 else 2):
        with crashes.attempt(piece):
            return _attempt(stage, table)
    if len(rows) <= 1:
        detail = f"{stage.name}: two worker processes in a row died of this row alone ({DYING})"
        return fill(table, {}, dict.fromkeys(rows, (Reason.STAGE_ERROR, detail)))
    middle = rows[len(rows) // 2]
    halves = [_survive(stage, half, crashes, unit) for half in (table.slice(0, middle), table.slice(middle))]
    return pa.concat_tables(halves).combine_chunks()


def _said(stage: Stage, error: Exception) -> str:
    return f"{stage.name}: {type(error).__name__}: {error}"[:1000]


def _flag(table: pa.Table, flag: Flag) -> pa.Table:
    flags = table.column("flags").to_pylist()
    status = table.column("status").to_pylist()
    cells = {
        index: [*(old or []), flag]
        for index, old in enumerate(flags)
        if status[index] != REJECTED and flag not in (old or [])
    }
    return fill(table, {"flags": cells})
