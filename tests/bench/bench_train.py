"""A training on one core, against the code of an earlier commit, which computed frozen layers' states row by row.

    python tests/bench/bench_train.py [--before PATH | --commit a361456] [--data FILE --limit N] [--epochs 3]
                                      [--dtype float32] [--rounds 2]

Both train the built-in student on the same sentences with the same seed, in turn, each in a process of its own. Prints
CPU milliseconds a sentence after each epoch, the ratio, and the largest difference between the losses of an epoch. The
least time of the rounds counts. Reading and tokenizing the sentences and loading the encoder are no part of it.
--before: a source tree, instead of a commit of this repository.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
WORKER = """
import json, sys, time
import torch
torch.set_num_threads(1)
from xner_ray.train import loop
from xner_ray.train.network import Student
from xner_ray.train.recipe import Training
from xner_ray.train.sources import load
from xner_ray.train.windows import encode, goal
training = Training.model_validate(json.loads(sys.argv[1]))
table, _ = load(training, "data")
student = Student(training.model, ["LOC", "ORG", "PER"], seed=0, device=torch.device("cpu"))
windows = encode(table, student.tokenizer, student.positions)
learnt = goal(table, windows, student.names)
marks = [time.process_time()]
plan = (loop.Held(loop.Pool(windows, learnt), training.fit),) if hasattr(loop, "Held") else (windows, learnt)
progress = loop.fit(student, *plan, training.fit, checkpoint=lambda *_: marks.append(time.process_time()))
found = {"sentences": len(windows), "subwords": float(windows.lengths.mean())}
found["losses"] = [entry["loss"] for entry in progress.history]
print(json.dumps({**found, "ms": [1e3 * (mark - marks[0]) / len(windows) for mark in marks[1:]]}))
"""


def trained(tree: Path, recipe: dict[str, Any]) -> dict[str, Any]:
    path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", WORKER, json.dumps(recipe)]
    made = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, cwd=tree, check=True, capture_output=True)
    found: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--before", type=Path)
    parser.add_argument("--commit", default="a361456")
    parser.add_argument("--data", default=str(ROOT / "jobs/data/europarl.en.conll"))
    parser.add_argument("--limit", type=int)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    recipe = {
        "data": [
            {"input": {"path": options.data, "format": "conll", "lang": "eng_Latn", "limit": options.limit}},
        ],
        "labels": {"keep": ["PER", "LOC", "ORG"]},
        "fit": {"epochs": options.epochs, "dtype": options.dtype},
    }
    with tempfile.TemporaryDirectory() as folder:
        before = options.before
        if before is None:
            before = Path(folder)
            archive = subprocess.run(["git", "archive", options.commit], cwd=ROOT, check=True, capture_output=True)
            subprocess.run(["tar", "x", "-C", folder], input=archive.stdout, check=True)
        runs: dict[str, list[dict[str, Any]]] = {"before": [], "here": []}
        for _ in range(options.rounds):
            for name, tree in (("before", before), ("here", ROOT)):
                runs[name].append(trained(tree, recipe))
    one = runs["here"][0]
    print(f"{one['sentences']:,} sentences of {one['subwords']:.1f} subwords, {options.dtype}, CPU ms a sentence")
    print(f"{'epochs':>8}{'before':>10}{'here':>10}{'ratio':>8}")
    for epoch in range(options.epochs):
        old, new = (min(run["ms"][epoch] for run in runs[name]) for name in ("before", "here"))
        print(f"{epoch + 1:>8}{old:>10.2f}{new:>10.2f}{new / old:>8.2f}")
    pairs = zip(runs["before"][0]["losses"], one["losses"], strict=True)
    print(f"largest difference of an epoch's losses: {max(abs(a - b) for a, b in pairs):.6f}")
    same = all(run["losses"] == one["losses"] for run in runs["here"])
    print(f"the losses of {options.rounds} rounds here are {'the same' if same else 'NOT the same'}")


if __name__ == "__main__":
    main()
