"""What a worker does, whoever runs it: read a unit, load stages, publish the unit's part.

Read tasks of Ray import this file and no model code, but for the language identifier where given text is told by it.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from xner_ray.data.row import frequencies, rejected
from xner_ray.engine.envelope import pack
from xner_ray.errors import DeviceError, RetryableError, XnerError
from xner_ray.models import faults
from xner_ray.read.index.units import Unit
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.model import Recipe
from xner_ray.run import parts as part_files
from xner_ray.stage import Stage
from xner_ray.storage import files as storage
from xner_ray.translate.given import examined

Counted = dict[str, Any]
"""Counters by stage."""

PAUSES_S = (1.0, 5.0)
"""Seconds to wait before models are loaded again in the same process."""


def read_counted(unit: Unit, plan: ReadPlan) -> tuple[pa.Table, Counted]:
    """Read the rows of a unit; return them with the counters of reading."""
    started, collecting = time.perf_counter(), gc.isenabled()
    gc.disable()  # a third of the time would go into looking for cycles among millions of cells that have none
    try:
        table = examined(read_unit(unit, plan), plan.recipe)
    finally:
        if collecting:
            gc.enable()
    seconds = time.perf_counter() - started
    rejects = frequencies(table.column("reason").filter(pa.array(rejected(table))))
    counted = {"rows": table.num_rows, "seconds": seconds, "tokens": 0, "model_seconds": 0.0, "rejects": rejects}
    return table, {"read": counted}


def read_packed(units: Sequence[Unit], plan: ReadPlan) -> list[pa.Table]:
    """Return the one block of a read task, a row a unit."""
    return [pa.concat_tables(pack(unit.name, *read_counted(unit, plan)) for unit in units)]


def environment(threads: int) -> dict[str, str]:
    """Return what tells libraries that are not loaded yet how many threads to take, whatever cores the machine has."""
    return {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": str(threads)}


def set_threads(threads: int) -> None:
    """Give torch its threads, where a stage has loaded it: its import costs 0.2 GB and 2 s."""
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def load_patiently(names: Sequence[str], load: Callable[[str], Stage], pauses_s: Sequence[float]) -> list[Stage]:
    """Load stages, again after each pause where that may help. RetryableError if it did not.

    ServiceError where a store or the hub does not answer. DeviceError at once if the device of this process fails, and
    after the pauses if its memory is full. What else a library raises is a RetryableError.
    """
    failure: XnerError = RetryableError("")
    for pause in (*pauses_s, None):
        try:
            return [load(name) for name in names]
        except RetryableError as error:
            failure = type(error)(str(error))  # without the frames, which hold what was half loaded
        except XnerError:
            raise
        except Exception as error:  # whatever a library raises for a broken disk, driver or download
            fault, said = faults.fault_of(error), f"{type(error).__name__}: {error}"
            failure = RetryableError(said) if fault is None else DeviceError(said)
            if fault == "device":
                raise failure from None
        if pause is not None:
            time.sleep(pause)
    raise failure


class PartWriter:
    """Publishes the part of a unit that went through all stages."""

    def __init__(self, recipe: Recipe, folder: str, labels: Sequence[str], retry: part_files.Retry | None) -> None:
        self.folder, self.labels, self.retry = folder, labels, retry
        # A second matching may still find what the first did not.
        self.reject_incomplete = recipe.output.incomplete == "reject" and not recipe.two_passes
        self.doubtful = recipe.output.doubtful

    def write(self, unit: str, table: pa.Table, counted: Counted) -> Counted:
        """Write the part; return its counters, those of stages included."""
        table = part_files.finish(table, self.labels, reject_incomplete=self.reject_incomplete, doubtful=self.doubtful)
        if self.retry is not None:
            table = part_files.retried(part_files.read_part(self.retry.parts[unit]), table, self.retry.reasons[unit])
        counters = {**part_files.count(table), "stages": counted}
        part_files.write_part(storage.join(self.folder, f"{unit}.parquet"), table, counters)
        return counters
