"""Projector constrained beside match and marker on template sentences; two Markdown tables for docs/translation.md.

    python tests/bench/bench_constrained.py [--folder runs/constrained] [--sentences 1000]

Sentences are held-out ones of jobs/tiny_nllb/generate.py, into Swahili and Spanish, whose translations and entities'
places are known. First the translator's own text: tiny-nllb's for match and constrained, the bracket model's (trained
here, jobs/tiny_nllb/train.py --brackets) for marker. Only sentences count that all three translated as the generator
does, and of these all entities. Then the generator's text, given: all sentences, match and constrained.

CPU seconds a sentence are those of the whole run in this process on one thread, models loaded and translation included.
Runs stay in the folder, and what is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "helpers")]

import bracketed  # noqa: E402
from tiny_nllb import CODES, generate  # noqa: E402

import xner_ray  # noqa: E402

METHODS = ("match", "marker", "constrained")


def made(folder: Path, name: str, sections: dict[str, Any]) -> float:
    """Project into folder/name in this process, or go on there; return the CPU seconds of all that it took."""
    clock = folder / f"{name}.json"
    spent: list[float] = json.loads(clock.read_text()) if clock.exists() else []
    recipe = {
        "input": {"path": str(folder / "en.jsonl"), **sections.pop("input", {})},
        "targets": [CODES[lang] for lang in bracketed.LANGUAGES],
        "engine": {"executor": "inline", "unit_rows": 256},
        **sections,
    }
    began, done = time.process_time(), (folder / name / "_run" / "SEALED").exists()
    try:
        xner_ray.project(recipe, folder / name)
    finally:
        if not done:
            spent.append(time.process_time() - began)
            clock.write_text(json.dumps(spent))
    return sum(spent)


def table(folder: Path, runs: dict[str, str], seconds: dict[str, float], drawn: list[Any]) -> list[str]:
    """Return a row for every method: the entities of sentences that all runs have in the generator's words."""
    counts = {method: dict.fromkeys(("all", "reordered", "repeated", "unplaced"), 0) for method in runs}
    total = dict.fromkeys(("all", "reordered", "repeated"), 0)
    n_sentences = 0
    for lang in bracketed.LANGUAGES:
        texts = [bracketed.right_texts(folder / run, lang, drawn) for run in runs.values()]
        same = set.intersection(*texts)
        n_sentences += len(same)
        found = {method: bracketed.places(folder / run, lang) for method, run in runs.items()}
        for number in sorted(same):
            for source, entity in enumerate(bracketed.wanted(drawn[number], lang)):
                kinds = ["all", *(kind for kind in ("reordered", "repeated") if getattr(entity, kind))]
                for kind in kinds:
                    total[kind] += 1
                for method, own in found.items():
                    place = own[number].get(source)
                    counts[method]["unplaced"] += place is None
                    for kind in kinds:
                        counts[method][kind] += place == entity.place
    head = f"{n_sentences:,} sentences, entities at the right place, % of"
    lines = [
        f"| {head} | {' | '.join(f'{kind} ({n:,})' for kind, n in total.items())} | unplaced | CPU s a sentence |",
        "|---|" + "---:|" * (len(total) + 2),
    ]
    for method, own in counts.items():
        shares = " | ".join(f"{100 * own[kind] / max(n, 1):.1f}" for kind, n in total.items())
        each = seconds[method] / (len(bracketed.LANGUAGES) * len(drawn))
        lines.append(f"| `{method}` | {shares} | {own['unplaced']} | {each:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "constrained")
    parser.add_argument("--sentences", type=int, default=1_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = options.folder
    drawn = generate.sentences(options.sentences, generate.HELD_OUT_SEED, held_out=True)
    bracketed.write_sentences(folder, drawn)
    model = str(bracketed.trained(folder.resolve() / "tiny-nllb-brackets"))
    plain, keeps_brackets = {"engine": "nllb", "model": "tiny-nllb"}, {"engine": "nllb", "model": model}
    given = {"input": {"parallel": {CODES[lang]: str(folder / f"{CODES[lang]}.txt") for lang in bracketed.LANGUAGES}}}
    constrained: dict[str, Any] = {"projector": "constrained", "constrained": {"model": model}}
    seconds = {
        "match": made(folder, "match", {"translate": plain}),
        "marker": made(folder, "marker", {"projector": "marker", "translate": keeps_brackets}),
        "constrained": made(folder, "constrained", {"translate": plain, **constrained}),
    }
    print("\n".join(table(folder, {method: method for method in METHODS}, seconds, drawn)), end="\n\n")
    seconds = {
        "match": made(folder, "match-given", {**given}),
        "constrained": made(folder, "constrained-given", {**given, **constrained}),
    }
    print("\n".join(table(folder, {method: f"{method}-given" for method in seconds}, seconds, drawn)))


if __name__ == "__main__":
    main()
