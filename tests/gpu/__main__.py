"""Check a machine with one GPU, and write report.md and report.json.

    python tests/gpu short [--out runs/gpu-short]                     8 minutes: one process, random weights
    python tests/gpu hour  [--out runs/gpu] [--models FOLDER]         60 minutes: published models, whole runs

docs/gpu.md says what each line means. Exit status: 0, or 1 where a check failed or is an alarm, 2 without a GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import time
from pathlib import Path

STARTED = time.monotonic()
ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/helpers"), str(Path(__file__).parent)]

import harness  # noqa: E402

LIMITS_S = {"short": 480.0, "hour": 3600.0}
NEEDED = (
    *("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow", "scipy"),
    *("pydantic", "yaml", "icu4py", "filelock"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", choices=LIMITS_S)
    parser.add_argument("--out", type=Path, help="folder of the report")
    parser.add_argument("--models", type=Path, help="folder with OWNER/NAME for each model, instead of the hub")
    parser.add_argument("--limit-s", type=float, help="time of the whole")
    options = parser.parse_args()
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        print(f"missing on this machine: {', '.join(missing)}; install them (docs/gpu.md), and run this again")
        return 2
    import torch

    if not torch.cuda.is_available():
        print(f"torch {torch.__version__} sees no CUDA device here: run this on a machine with a GPU (docs/gpu.md)")
        return 2
    import rig
    import short_list

    machine = rig.Cuda()
    limit = options.limit_s or LIMITS_S[options.list]
    if options.list == "short":
        title, own, checks = "Eight minutes on a GPU", rig.Rig(machine, rig.Sizes()), short_list.CHECKS
    else:
        import hour_list

        title = "The first hour on a GPU"
        own, checks = hour_list.rig_of(machine, options.models), hour_list.CHECKS
    out = options.out or ROOT / "runs" / f"gpu-{options.list}"
    report = harness.Report(out, title, machine.described(), limit)
    try:
        harness.run(checks, own, report, spent_s=time.monotonic() - STARTED, clean=machine.clear)
    finally:
        own.close()
    print(out / "report.md")
    return int(report.bad)


if __name__ == "__main__":
    sys.exit(main())
