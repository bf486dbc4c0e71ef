"""One call of one stage on one unit, made safe: every row comes back exactly once, whatever the stage does.

Out of memory on the device halves the stage's micro-batches and calls again; a row that alone makes the stage raise is
found by bisection and rejected, its neighbours are saved. Either changes the shapes of the model's batches, so the
rows say so in `flags`. `FatalError` and `RetryableError` pass: the first ends the run, the second is Ray's to retry.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa
import torch

from xner_ray.errors import FatalError, Reason, XnerError
from xner_ray.schema import REJECTED, fill, live
from xner_ray.stage import Stage

HALVED, BISECTED = "memory_halved", "bisected"
_SMALLEST_BUDGET = 16


@dataclass
class StageStats:
    """What one stage did to one unit."""

    rows: int = 0  # that were not rejected when it began
    seconds: float = 0.0
    tokens: int = 0
    rejects: dict[str, int] = field(default_factory=dict)  # new ones, by reason


def run_stage(stage: Stage, table: pa.Table) -> tuple[pa.Table, StageStats]:
    """The stage's output for the same rows, and what it did. FatalError if it lost, added or moved a row."""
    started, tokens = time.perf_counter(), stage.tokens
    before = live(table)
    result = _attempt(stage, table)
    alive = set(live(result))
    reasons = result.column("reason").to_pylist()
    stats = StageStats(
        rows=len(before),
        seconds=time.perf_counter() - started,
        tokens=stage.tokens - tokens,
        rejects=dict(Counter(str(reasons[index]) for index in before if index not in alive)),
    )
    return result, stats


def _attempt(stage: Stage, table: pa.Table) -> pa.Table:
    try:
        return _checked(stage, table, stage(table))
    except torch.OutOfMemoryError as error:
        return _halve(stage, table, error)
    except XnerError:
        raise
    except Exception as error:  # whatever a model or a library raises is this row's fault, or no row's
        return _bisect(stage, table, error)


def _checked(stage: Stage, before: pa.Table, after: pa.Table) -> pa.Table:
    if not after.schema.equals(before.schema) or not after.column("row").equals(before.column("row")):
        raise FatalError(f"stage {stage.name} did not return every row exactly once, in order, with its schema")
    return after


def _halve(stage: Stage, table: pa.Table, error: torch.OutOfMemoryError) -> pa.Table:
    budget = stage.micro_batch_tokens
    if budget // 2 < _SMALLEST_BUDGET:
        raise FatalError(
            f"stage {stage.name} runs out of memory on micro-batches of {budget} tokens: {error}"
        ) from error
    torch.cuda.empty_cache()
    stage.micro_batch_tokens = budget // 2
    try:
        return _flag(_attempt(stage, table), HALVED)
    finally:
        stage.micro_batch_tokens = budget  # or the next unit's bytes would depend on this one


def _bisect(stage: Stage, table: pa.Table, error: Exception) -> pa.Table:
    rows = live(table)
    if len(rows) <= 1:
        detail = f"{stage.name}: {type(error).__name__}: {error}"[:1000]
        return fill(table, {}, dict.fromkeys(rows, (Reason.STAGE_ERROR, detail)))
    middle = rows[len(rows) // 2]
    halves = [_attempt(stage, table.slice(0, middle)), _attempt(stage, table.slice(middle))]
    return _flag(pa.concat_tables(halves).combine_chunks(), BISECTED)


def _flag(table: pa.Table, flag: str) -> pa.Table:
    flags = table.column("flags").to_pylist()
    status = table.column("status").to_pylist()
    cells = {
        index: [*(old or []), flag]
        for index, old in enumerate(flags)
        if status[index] != REJECTED and flag not in (old or [])
    }
    return fill(table, {"flags": cells})
