"""What the likeliest sequence of tags is worth beside each word's best tag: runs of `projector: transfer` with gold.

    python tests/bench/bench_tag_paths.py RUN ...       # as of jobs/uner_transfer.yaml, jobs/masakha_transfer.yaml
    python tests/bench/bench_tag_paths.py RUN ... --begins 0.05 --iob1

Baseline: each word's most probable tag, where an I- that continues nothing begins an entity. Both readings are of the
probabilities in the run's `target_tags`. Prints precision, recall and F1 of both by run and language, and the time of
the sequences. --iob1: probabilities as of a classifier that lists B- and begins entities with I-, by adding each B- to
its I-.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from xner_ray.data.arrow import lengths
from xner_ray.data.row import SCALE
from xner_ray.data.spans import label_list, tags_to_spans
from xner_ray.data.tag_paths import BEGINS, best_tags
from xner_ray.match.batch import EntityBatch
from xner_ray.match.rows import read_tags
from xner_ray.train.recipe import Source
from xner_ray.train.runs import RunReader, _batches

Spans = set[tuple[int, int, str]]


def read(table: pa.Table, begins: float, iob1: bool) -> Iterator[tuple[Spans, Spans, Spans, float]]:
    """Yield each row's gold, its spans by both readings, and its share of the time."""
    n_target, none = lengths(table.column("tokens")), np.zeros(0, dtype=np.int64)
    batch = EntityBatch(n_source=np.zeros_like(n_target), n_target=n_target, row=none, start=none, end=none)
    tags = read_tags(table.column("target_tags").combine_chunks(), batch)
    names = label_list(tags.labels)
    parts = np.rint(tags.probabilities * SCALE).astype(np.int64)
    if iob1:
        parts[:, 2::2] = np.minimum(parts[:, 2::2] + parts[:, 1::2], SCALE)
        parts[:, 1::2] = 0
    began = time.perf_counter()
    best = best_tags(parts, np.cumsum([0, *n_target]), names, begins=max(begins, 1e-300))
    seconds = (time.perf_counter() - began) / max(1, table.num_rows)
    cuts = np.cumsum(n_target)[:-1]
    readings = (np.split(each, cuts) for each in (parts.argmax(axis=1), best))
    for gold, *found in zip(table.column("gold_spans").to_pylist(), *readings, strict=True):
        spans = [
            {(s.start, s.end, s.label) for s in tags_to_spans([names[tag] for tag in own.tolist()])[0]} for own in found
        ]
        yield {(s["start"], s["end"], s["label"]) for s in gold}, spans[0], spans[1], seconds


def figures(own: Counter[str], name: str) -> tuple[float, float, float]:
    """Return precision, recall and F1 of a reading."""
    right, found, gold = own[f"{name} right"], own[name], own["gold"]
    return right / max(1, found), right / max(1, gold), 2 * right / max(1, found + gold)


def counted(run: str, begins: float, iob1: bool) -> dict[str, Counter[str]]:
    """Return the counts of a run by language."""
    reader = RunReader.of(Source.model_validate({"run": run, "labels": "soft"}), learnt=True)
    counts: dict[str, Counter[str]] = {}
    for lang, file in reader.files():
        own = counts.setdefault(lang, Counter())
        for part in _batches(file, {"tokens", "target_tags", "gold_spans"}):
            with_gold = part.filter(part.column("gold_spans").is_valid())
            for gold, alone, path, seconds in read(with_gold, begins, iob1):
                own.update(rows=1, gold=len(gold), microseconds=seconds * 1e6)
                own.update({"alone": len(alone), "alone right": len(alone & gold)})
                own.update({"path": len(path), "path right": len(path & gold)})
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--begins", type=float, default=BEGINS, help="the factor of an I- that continues nothing")
    parser.add_argument("--iob1", action="store_true")
    given = parser.parse_args()
    every = []
    for run in given.runs:
        for lang, own in counted(run, given.begins, given.iob1).items():
            both = [figures(own, name) for name in ("alone", "path")]
            every.append([each[2] for each in both])
            alone, path = (" ".join(f"{100 * figure:.1f}" for figure in each) for each in both)
            spent = own["microseconds"] / max(1, own["rows"])
            print(f"{run} {lang}: {own['rows']} rows, word by word {alone}, sequence {path}, {spent:.0f} us a row")
    mean = [100 * sum(each) / len(every) for each in zip(*every, strict=True)]
    print(f"mean F1 of {len(every)}: word by word {mean[0]:.2f}, sequence {mean[1]:.2f}")


if __name__ == "__main__":
    main()
