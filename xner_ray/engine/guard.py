"""One call of one stage on one unit, made safe: every row comes back exactly once, whatever the stage does.

Out of memory on the device: the stage's micro-batches are halved and it is called again, and so for the units that
follow in this process, which would run into the same wall; their rows are `memory_halved`. A device that fails in any
other way is no row's fault: DeviceError, after which nothing works in this process any more.
A row on which the stage raises is found by bisection and rejected; the stage is called again without it, and where a
model has read the other rows, which it then read in other micro-batches, they are flagged `bisected`. A stage that
raises on many rows of a unit is broken, and no row is at fault: FatalError. `FatalError` and `RetryableError` pass: the
first ends the run, the second is the executor's to retry. A row that kills its process is found in the same way, but by
later processes: `crashes.py` tells them which piece of the unit the dead ones worked on.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakSet

import numpy as np
import pyarrow as pa

from xner_ray import interrupts
from xner_ray.data.row import accepted_rows, fill, frequencies, rejected
from xner_ray.engine.crashes import DYING, CrashCounter
from xner_ray.errors import DeviceError, FatalError, Flag, Reason, RetryableError, XnerError, one_line
from xner_ray.models import faults
from xner_ray.stage import Stage, forget

_SMALLEST_BUDGET = 16
_ROUNDS = 3  # searches for poison rows, for a stage that raises again without the rows found
_FEW = 16  # rows of one unit may raise, whatever its size
_lowered: WeakSet[Stage] = WeakSet()  # stages whose micro-batches were halved


@dataclass
class StageStats:
    """What one stage did to one unit."""

    rows: int = 0  # not rejected before
    seconds: float = 0.0
    tokens: int = 0
    model_seconds: float = 0.0  # part of `seconds`
    rejects: dict[str, int] = field(default_factory=dict)  # new ones, by reason


def run_stage(
    stage: Stage, table: pa.Table, crashes: CrashCounter | None = None, unit: str = ""
) -> tuple[pa.Table, StageStats]:
    """Return the stage's output for the same rows, and what it did.

    crashes: counts the deaths at pieces of this `unit`; the stage then gets the unit in pieces that kill nobody.
    FatalError if the stage lost, added or moved a row.
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
    """The device's memory ran out, whichever library says so."""


def _attempt(stage: Stage, table: pa.Table) -> pa.Table:
    """Call the stage, with a smaller budget whenever memory does not suffice. FatalError if there is none to halve."""
    tokens = stage.tokens
    while True:
        if stage in _lowered:
            forget(stage)  # or what is remembered would miss its flag
        try:
            result = _call(stage, table)
            result = _isolate(stage, table, result) if isinstance(result, Exception) else result
            return _flag(result, Flag.MEMORY_HALVED) if stage in _lowered and stage.tokens > tokens else result
        except _OutOfMemoryError as error:
            said = str(error)
        # Here, and not in the `except`: what the failed call had on the device is gone
        budget = stage.micro_batch_tokens
        if budget // 2 < _SMALLEST_BUDGET:
            raise FatalError(
                f"stage {stage.name} runs out of memory on micro-batches of {budget} tokens: {said}; give it a device "
                "with more memory, a smaller model, or smaller units (engine.unit_rows, with --fresh)"
            )
        stage.micro_batch_tokens = budget // 2
        _lowered.add(stage)
        faults.free()


def _call(stage: Stage, table: pa.Table) -> pa.Table | Exception:
    """Return the stage's output, or what it raised if a row may be at fault.

    What it raised holds no frame: all that the call had on the device is free when this returns or raises.
    """
    try:
        result = stage(table)
    except XnerError:
        raise
    except Exception as error:  # whatever a model or a library raises
        interrupts.check()
        result, fault = faults.without_frames(error), faults.fault_of(error)
    else:
        fault = None
    if isinstance(result, Exception):
        if fault == "memory":
            raise _OutOfMemoryError(str(result))
        said = str(result) if fault == "device" else faults.probe()
        if said is not None:
            raise DeviceError(
                f"the device of stage {stage.name} fails: {one_line(said.strip(), 400)}; nothing works in this "
                "process any more, and the same command goes on in a new process"
            )
        return result
    if not result.schema.equals(table.schema) or not result.column("row").equals(table.column("row")):
        raise FatalError(f"stage {stage.name} did not return every row exactly once, in order, with its schema")
    return result


def check(stage: Stage, table: pa.Table) -> None:
    """Raise DeviceError if a stage's device fails on rows that are known to be good; nothing else is asked."""
    with suppress(FatalError, RetryableError, _OutOfMemoryError):
        _call(stage, table)


def _isolate(stage: Stage, table: pa.Table, error: Exception) -> pa.Table:
    """Reject the rows that make the stage raise, and return its output for the others.

    error: raised on the whole table. Of eight rows with poison in row 5, the calls are (! raises)

        0-7!    0-3   4-7!    4-5!  6-7    4  5!    and, without row 5, all of 0-7 again

    The others are flagged if a model read them in that last call: it formed other micro-batches than without poison.
    """
    found: dict[int, Exception] = {}
    for _ in range(_ROUNDS):
        known = set(found)
        _find_poison(stage, table, accepted_rows(table), error, found)
        table = _reject(stage, table, {row: found[row] for row in found.keys() - known})
        tokens = stage.tokens
        forget(stage)
        result = _call(stage, table)
        if not isinstance(result, Exception):
            return _flag(result, Flag.BISECTED) if found and stage.tokens > tokens else result
        error = result
    rows = accepted_rows(table)
    if len(rows) < table.num_rows:
        # Stages read the source side of rejected rows too, which languages share: one of these may be at fault
        part = _call(stage, table.take(pa.array(rows, pa.int64())))
        if not isinstance(part, Exception):
            return _flag(_put_back(table, rows, part), Flag.BISECTED)
    return _flag(_in_pieces(stage, table, error), Flag.BISECTED)


def _put_back(table: pa.Table, rows: list[int], part: pa.Table) -> pa.Table:
    """Return the table with some of its rows replaced, by those of `part`."""
    places = np.arange(table.num_rows)
    places[rows] = table.num_rows + np.arange(len(rows))
    return pa.concat_tables([table, part]).take(pa.array(places)).combine_chunks()


def _find_poison(stage: Stage, table: pa.Table, rows: list[int], error: Exception, found: dict[int, Exception]) -> None:
    """Add to `found` the rows on which the stage raises alone, by halves; `error` is raised on all `rows` together.

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
        cause = _call(stage, table.take(pa.array(half)))
        if isinstance(cause, Exception):
            _find_poison(stage, table, half, cause, found)


def _in_pieces(stage: Stage, table: pa.Table, error: Exception) -> pa.Table:
    """Call a stage that raises on rows together but not alone with pieces as large as pass; reject what fails alone.

    error: raised on the whole table.
    """
    rows = accepted_rows(table)
    if len(rows) <= 1:
        return _reject(stage, table, dict.fromkeys(rows, error))
    pieces = []
    for piece in (table.slice(0, rows[len(rows) // 2]), table.slice(rows[len(rows) // 2])):
        result = _call(stage, piece)
        pieces.append(_in_pieces(stage, piece, result) if isinstance(result, Exception) else result)
    return pa.concat_tables(pieces).combine_chunks()


def _survive(stage: Stage, table: pa.Table, crashes: CrashCounter, unit: str) -> pa.Table:
    """Call the stage with the largest pieces that killed no process; reject a row that killed two alone.

    A process dies here, and the next one begins again with the whole unit. Of four rows with a deadly row 2:
    dies at 0-3; does 0-1, dies at 2-3; does 0-1, dies at 2; does 0-1, dies at 2; does 0-1, rejects 2, does 3.
    """
    rows = accepted_rows(table)
    if len(rows) < table.num_rows:  # a rejected row that kills, too, must not look like its neighbour
        return _put_back(table, rows, _survive(stage, table.take(pa.array(rows, pa.int64())), crashes, unit))
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


def _reject(stage: Stage, table: pa.Table, errors: dict[int, Exception]) -> pa.Table:
    return fill(table, {}, {row: (Reason.STAGE_ERROR, _said(stage, error)) for row, error in errors.items()})


def _said(stage: Stage, error: Exception) -> str:
    return f"{stage.name}: {type(error).__name__}: {error}"[:1000]


def _flag(table: pa.Table, flag: Flag) -> pa.Table:
    """Flag all accepted rows."""
    flags = table.column("flags").to_pylist()
    return fill(
        table,
        {"flags": {row: [*(flags[row] or ()), flag] for row in accepted_rows(table) if flag not in (flags[row] or ())}},
    )
