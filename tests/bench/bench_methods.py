"""Methods x data sets: strict span F1, projection ratio, seconds of matching; as Markdown for docs/quality.md.

    python tests/bench/bench_methods.py [--folder runs/methods] [--only europarl,pud,masakha]

Each data set is aligned once for every aligner setting and matched again (`rematch`) for every method, so all methods
of one setting see the same links. Evaluation data is read from $XNER_SHARED (default ../shared); what is not there is
left out. Runs stay in the folder, and what is there already is not made again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import xner_ray
from xner_ray.engine import ray_cluster

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("XNER_SHARED", ROOT.parent / "shared")) / "data"
PLAIN = ["match.prior=none", "match.min_score=0"]
HARD = [*PLAIN, "match.scores={align: 1}"]
PAPER = [*HARD, "match.solver=greedy", "match.candidates=ngram", "match.max_words=10"]
HARD_METHODS = ("argmax", "mwmf", "forward", "reverse", "softmax")

# Aligner setting -> (overrides, methods); a method is (name, overrides of the matching)
ALIGNERS: dict[str, tuple[list[str], list[tuple[str, list[str]]]]] = {
    "not centred": (
        ["align.center=none"],
        [
            ("heuristic, itermax (paper)", ["match.solver=heuristic"]),
            ("greedy, itermax, n-grams to 10 (paper)", PAPER),
            ("exact, itermax", HARD),
            *((f"exact, {method}", [*HARD, f"align.method={method}"]) for method in HARD_METHODS),
            ("exact, soft", [*PLAIN, "match.scores={soft: 1}"]),
            ("default matching", []),
        ],
    ),
    "centred": (
        [],
        [
            ("heuristic, itermax", ["match.solver=heuristic"]),
            ("heuristic, softmax", ["match.solver=heuristic", "align.method=softmax"]),
            ("exact, itermax", HARD),
            ("exact, argmax", [*HARD, "align.method=argmax"]),
            ("exact, softmax", [*HARD, "align.method=softmax"]),
            ("exact, soft", [*PLAIN, "match.scores={soft: 1}"]),
            ("exact, soft, min_score", ["match.prior=none", "match.scores={soft: 1}"]),
            ("exact, soft, prior without edges", ["match.scores={soft: 1}"]),
            ("exact, soft and edges, no min_score", ["match.min_score=0"]),
            ("default, greedy", ["match.solver=greedy"]),
            ("**default**", []),
        ],
    ),
    "centred, subwords": (["align.level=subword"], [("default matching", [])]),
    "centred, bfloat16": (["align.dtype=bfloat16"], [("default matching", [])]),
    "centred, int8": (["align.dtype=int8"], [("default matching", [])]),
}


def recipes(folder: Path) -> dict[str, dict[str, Any]]:
    """The data sets that are there, as recipes."""
    europarl = {
        "path": str(SHARED / "europarl-ner/en-europarl.test.conll02"),
        "format": "conll",
        "lang": "eng_Latn",
        "parallel": {"spa_Latn": str(SHARED / "europarl-ner/es-europarl.test.conll02")},
    }
    pud = {
        "path": str(SHARED / "uner-pud/en_pud-ud-test.iob2"),
        "format": "uner",
        "lang": "eng_Latn",
        "parallel": {
            lang: str(SHARED / f"uner-pud/{short}_pud-ud-test.iob2")
            for lang, short in (("por_Latn", "pt"), ("swe_Latn", "sv"))
        },
    }
    found: dict[str, dict[str, Any]] = {
        "europarl": {"input": europarl, "targets": ["spa_Latn"]},
        "pud": {"input": pud, "targets": ["por_Latn", "swe_Latn"]},
    }
    if (SHARED / "masakha-join-dev").is_dir():
        joined = folder / "masakha_input"
        subprocess.run([sys.executable, ROOT / "jobs/masakha_join.py", SHARED / "masakha-join-dev", joined], check=True)
        found["masakha"] = {
            "direction": "test",
            "input": {
                "path": f"{joined}/{{lang}}.conll",
                "lang": ["lug_Latn", "pcm_Latn", "twi_Latn"],
                "labels": {"keep": ["PER", "LOC", "ORG"]},
                "parallel": {"eng_Latn": f"{joined}/{{lang}}.eng_Latn.txt"},
            },
            "tag": {"engine": "spacy"},
        }
    return {
        name: recipe for name, recipe in found.items() if name == "masakha" or Path(recipe["input"]["path"]).exists()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "runs/methods")
    parser.add_argument("--only", default="", help="data sets, separated by commas")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    chosen = recipes(options.folder)
    chosen = {name: chosen[name] for name in options.only.split(",")} if options.only else chosen
    rows: dict[tuple[str, str], list[str]] = {}
    languages: list[str] = []
    with ray_cluster.cluster("local"):
        for name, recipe in chosen.items():
            for setting, (overrides, methods) in ALIGNERS.items():
                base = options.folder / f"{name}-{setting.replace(', ', '-').replace(' ', '_')}"
                made = xner_ray.project(recipe, base, overrides=["align.method=mwmf", *overrides])
                for number, (method, changes) in enumerate(methods):
                    run = f"{base}-{number}"
                    links = [] if any(c.startswith("align.method") for c in changes) else ["align.method=itermax"]
                    report = xner_ray.rematch(base, run, overrides=[*links, *changes])
                    seconds = sum(
                        report["stages"].get(stage, {"seconds": 0})["seconds"] for stage in ("match", "refine")
                    )
                    cells = rows.setdefault((setting, method), [])
                    for scores in xner_ray.evaluate(run):
                        languages += [scores.lang] if scores.lang not in languages else []
                        cells.append(f"{100 * scores.overall.f1:.1f} ({scores.projection_ratio:.2f})")
                    cells.append(f"{seconds:.2f}")
                    print(f"{name}, {setting}, {method}: {' '.join(cells)}", file=sys.stderr, flush=True)
                aligned = made["stages"]["align"]
                print(f"{name}, {setting}: {aligned['rows_per_second']} rows/s aligned", file=sys.stderr, flush=True)
    heads = []
    for name in chosen:
        own = [lang for lang in languages if lang in made_for(chosen[name])]
        heads += [*own, "s"]
    print(f"| links | method | {' | '.join(heads)} |")
    print(f"|---|---|{'---:|' * len(heads)}")
    for (setting, method), cells in rows.items():
        print(f"| {setting} | {method} | {' | '.join(cells)} |")


def made_for(recipe: dict[str, Any]) -> list[str]:
    return recipe.get("targets") or recipe["input"]["lang"]


if __name__ == "__main__":
    main()
