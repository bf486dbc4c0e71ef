"""Which words of sentences with a missing entity are taught as O though gold has them, and which of these are masked.

    python tests/bench/bench_unknown.py RUN        # a finished run with gold, as of jobs/masakha_join.yaml

Baseline: `filters.incomplete: mask`, which masks all O words of such a sentence. Prints by language, for it and for
`words`, how many words are masked, which share of them is gold, and which share of the gold words taught as O they are.
"""

from __future__ import annotations

import argparse
from collections import Counter

import pyarrow as pa

from xner_ray.data.arrow import lengths
from xner_ray.train.recipe import Source
from xner_ray.train.runs import RunReader, _batches, _unknown


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    source = Source.model_validate({"run": parser.parse_args().run, "filters": {"incomplete": "words"}})
    reader = RunReader.of(source, learnt=True)
    counts: dict[str, Counter[str]] = {}
    for lang, file in reader.files():
        own = counts.setdefault(lang, Counter())
        for part in _batches(file, reader.asked | {"gold_spans"}):
            part = part.filter(pa.array(lengths(part.column("unprojected")) > 0))
            for row, unknown in zip(part.to_pylist(), _unknown(part).to_pylist(), strict=True):
                spans, gold = (
                    {word for span in row[name] or () for word in range(span["start"], span["end"])}
                    for name in ("spans", "gold_spans")
                )
                o_words = set(range(len(row["tokens"]))) - spans
                own["sentences"] += 1
                own["taught"] += len(gold & o_words)
                for name, masked in (("mask", o_words), ("words", set(unknown))):
                    own[name] += len(masked)
                    own[f"{name} hit"] += len(masked & gold)
    for lang, own in counts.items():
        print(f"{lang}: {own['sentences']} sentences lost an entity, {own['taught']} gold words are taught as O")
        for name in ("mask", "words"):
            share, covered = (own[f"{name} hit"] / max(1, n) for n in (own[name], own["taught"]))
            print(f"  {name:6} masks {own[name]:5} words, {share:.2f} of them gold; {covered:.2f} of those taught as O")


if __name__ == "__main__":
    main()
