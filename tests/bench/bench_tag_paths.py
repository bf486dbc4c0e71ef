"""What the best sequence of tags is worth beside each word's best tag, on runs of `projector: transfer` with gold.

    python tests/bench/bench_tag_paths.py RUN ...       # as of jobs/uner_transfer.yaml, jobs/masakha_transfer.yaml

Baseline: each word's most probable tag, where an I- that continues nothing begins an entity. Both readings are of the
probabilities in the run's `target_tags`. Prints precision, recall and F1 of both by run and language, and the time of
the sequences.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from xner_ray.data.arrow import lengths
from xner_ray.data.spans import label_list, tags_to_spans
from xner_ray.match.batch import EntityBatch
from xner_ray.match.rows import read_tags
from xner_ray.train.recipe import Source
from xner_ray.train.runs import RunReader, _batches

Spans = set[tuple[int, int, str]]


def read(table: pa.Table) -> Iterator[tuple[Spans, Spans, Spans, float]]:
    """Yield each row's gold, its spans by both readings, and its share of the time."""
    n_target, none = lengths(table.column("tokens")), np.zeros(0, dtype=np.int64)
    batch = EntityBatch(n_source=np.zeros_like(n_target), n_target=n_target, row=none, start=none, end=none)
    tags = read_tags(table.column("target_tags").combine_chunks(), batch)
    names = label_list(tags.labels)
    began = time.perf_counter()
    best = tags.best(batch)
    seconds = (time.perf_counter() - began) / max(1, table.num_rows)
    cuts = np.cumsum(n_target)[:-1]
    readings = (np.split(each, cuts) for each in (tags.probabilities.argmax(axis=1), best))
    for gold, *found in zip(table.column("gold_spans").to_pylist(), *readings, strict=True):
        spans = [
            {(s.start, s.end, s.label) for s in tags_to_spans([names[tag] for tag in own.tolist()])[0]} for own in found
        ]
        yield {(s["start"], s["end"], s["label"]) for s in gold}, spans[0], spans[1], seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    for run in parser.parse_args().runs:
        reader = RunReader.of(Source.model_validate({"run": run, "labels": "soft"}), learnt=True)
        counts: dict[str, Counter[str]] = {}
        for lang, file in reader.files():
            own = counts.setdefault(lang, Counter())
            for part in _batches(file, {"tokens", "target_tags", "gold_spans"}):
                for gold, alone, path, seconds in read(part.filter(part.column("gold_spans").is_valid())):
                    own.update(rows=1, gold=len(gold), microseconds=seconds * 1e6)
                    own.update({"alone": len(alone), "alone right": len(alone & gold)})
                    own.update({"path": len(path), "path right": len(path & gold)})
        for lang, own in counts.items():
            shown = []
            for name in ("alone", "path"):
                right, given = own[f"{name} right"], own[name]
                figures = right / max(1, given), right / max(1, own["gold"]), 2 * right / max(1, given + own["gold"])
                shown.append(" ".join(f"{100 * figure:.1f}" for figure in figures))
            each = own["microseconds"] / max(1, own["rows"])
            print(
                f"{run} {lang}: {own['rows']} rows, word by word {shown[0]}, sequence {shown[1]}, {each:.0f} us a row"
            )


if __name__ == "__main__":
    main()
