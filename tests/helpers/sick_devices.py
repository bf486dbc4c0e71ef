"""A run on four fake GPUs, some of which fail as CUDA does. `python sick_devices.py KIND RECIPE RUN FOLDER`.

KIND: `one` GPU fails on whatever it gets; `all` do; `once` a device fails for one call; `row` 7 breaks any; `load`: one
GPU fails when models are loaded.
Prints what the driver notices; FOLDER gets the mark of what happened once.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import faults
import ray
import ray.cloudpickle
import torch
from rich.console import Console

import xner_ray
from xner_ray.engine import ray_data
from xner_ray.engine.ray_cluster import visible_gpus
from xner_ray.errors import XnerError
from xner_ray.stage import Stage


def main() -> int:
    kind, recipe, run, folder = sys.argv[1:]
    ray.cloudpickle.register_pickle_by_value(faults)

    class Sick(ray_data.WritingWorker):
        deaths = 2

        def load(self, name: str) -> Stage:
            if kind == "load" and visible_gpus() == ["1"]:
                raise torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")
            return faults.Faulty(super().load(name), check)  # type: ignore[return-value]

    def check(row: Mapping[str, Any]) -> None:
        fails = {
            "one": one_is_sick,
            "all": lambda: True,
            "once": lambda: row["row"] == 9 and first(),
            "row": lambda: row["row"] == 7 and row["id"] != "control",
            "load": lambda: False,
        }
        if fails[kind]():
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    def first() -> bool:
        return calls("calls", b".") == 1

    def one_is_sick() -> bool:
        """Fail on GPU 1. The other GPUs wait until it has failed on a unit and on the row that is known to be good."""
        sick = visible_gpus() == ["1"]
        written = calls("sick", b"." if sick else b"")
        patience = time.monotonic() + 60
        while not sick and written < 2 and time.monotonic() < patience:
            time.sleep(0.05)
            written = calls("sick", b"")
        return sick

    def calls(mark: str, call: bytes) -> int:
        with open(Path(folder) / mark, "ab") as file:
            file.write(call)
            return file.tell()

    ray.init(num_cpus=4, num_gpus=4, include_dashboard=False, log_to_driver=False)
    ray_data.WORKERS = (ray_data.Worker, Sick)
    try:
        report = xner_ray.project(recipe, run, console=Console(width=400))
    except XnerError as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    print(report["rows"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
