"""What learning on one domain does outside it: prints Markdown tables for docs/adaptation.md.

    python tests/bench/bench_adapt.py tagger [--seeds 3]   # F1 of a tagger that goes on learning
    python tests/bench/bench_adapt.py encoder              # alignment error and projection F1 of adapted encoders

Data are read from $XNER_SHARED (default ../shared). Each takes half an hour and more on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests/helpers"), str(ROOT / "tests/bench")]
SHARED = Path(os.environ.get("XNER_SHARED", ROOT.parent / "shared")) / "data"

from aer import Gold  # noqa: E402
from bench_aer import gold_sets  # noqa: E402

from xner_ray.adapt import loop, pairs  # noqa: E402
from xner_ray.adapt.recipe import Adaptation  # noqa: E402
from xner_ray.align.aligner import BatchAligner  # noqa: E402
from xner_ray.align.encoder import Encoder  # noqa: E402
from xner_ray.align.linking import AlignOptions  # noqa: E402
from xner_ray.align.stage import AlignStage  # noqa: E402
from xner_ray.evaluate import counting  # noqa: E402
from xner_ray.evaluate import scores as evaluation  # noqa: E402
from xner_ray.match import prior  # noqa: E402
from xner_ray.match import rows as rows_of  # noqa: E402
from xner_ray.match.stage import MatchStage  # noqa: E402
from xner_ray.read.index.build import build_index  # noqa: E402
from xner_ray.read.rows import ReadPlan, read_unit  # noqa: E402
from xner_ray.recipe import load as recipe_load  # noqa: E402
from xner_ray.train import student  # noqa: E402
from xner_ray.train.loop import predict  # noqa: E402
from xner_ray.train.recipe import Training  # noqa: E402
from xner_ray.train.sources import load  # noqa: E402
from xner_ray.train.states import FrozenStateCache  # noqa: E402
from xner_ray.train.student import counts_of, micro_f1, scored  # noqa: E402
from xner_ray.train.windows import encode  # noqa: E402

LABELS = {"keep": ["PER", "LOC", "ORG"]}
N_EUROPARL = 400  # pairs to learn from; the other 399 are held out


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def split_file(path: Path, into: Path, learns: Callable[[int, str], bool]) -> tuple[Path, Path]:
    """A CoNLL or UNER file as two: sentences to learn from, and held-out ones. learns: (number, document) -> which."""
    document, parts = "", ([], [])  # type: tuple[str, tuple[list[str], list[str]]]
    for number, block in enumerate(path.read_text(encoding="utf-8").strip().split("\n\n")):
        for line in block.splitlines():
            if line.startswith("# sent_id = "):
                document = line.removeprefix("# sent_id = ").split("-")[0].strip()
        parts[0 if learns(number, document) else 1].append(block)
    names = tuple(into / f"{path.stem.split('.')[0]}.{part}{path.suffix}" for part in ("train", "held"))
    for name, blocks in zip(names, parts, strict=True):
        name.write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    return names  # type: ignore[return-value]


def of_document(_number: int, document: str) -> bool:
    """Half of PUD's documents; those that are translations of each other have one name."""
    return hashlib.blake2b(document.encode(), digest_size=1).digest()[0] % 2 == 0


def first_pairs(number: int, _document: str) -> bool:
    return number < N_EUROPARL


def mean_and_range(values: Sequence[float]) -> str:
    return f"{np.mean(values):.1f} ({min(values):.1f}-{max(values):.1f})"


# The tagger ----------------------------------------------------------------------------------------------------------


def tagger(seeds: range) -> None:
    with tempfile.TemporaryDirectory() as name:
        _tagger(Path(name), seeds)


def _tagger(work: Path, seeds: range) -> None:
    pud = {
        lang: split_file(SHARED / f"uner-pud/{short}_pud-ud-test.iob2", work, of_document)
        for lang, short in (("eng_Latn", "en"), ("por_Latn", "pt"), ("swe_Latn", "sv"))
    }
    europarl = {
        lang: split_file(SHARED / f"europarl-ner/{short}-europarl.test.conll02", work, first_pairs)
        for lang, short in (("eng_Latn", "en"), ("spa_Latn", "es"))
    }

    def source(path: Path, lang: str) -> dict[str, object]:
        return {"input": {"path": str(path), "format": "uner" if path.suffix == ".iob2" else "conll", "lang": lang}}

    news, parliament = (source(files["eng_Latn"][0], "eng_Latn") for files in (pud, europarl))
    held = {
        "Europarl en": source(europarl["eng_Latn"][1], "eng_Latn"),
        "Europarl es": source(europarl["spa_Latn"][1], "spa_Latn"),
        "PUD en": source(pud["eng_Latn"][1], "eng_Latn"),
        "PUD pt": source(pud["por_Latn"][1], "por_Latn"),
        "PUD sv": source(pud["swe_Latn"][1], "swe_Latn"),
    }
    shared = FrozenStateCache(6e9)  # the frozen layers are those of all trainings
    gold = {}
    for label, one in held.items():
        table, _ = load(Training.model_validate({"data": [one], "evaluate": [one], "labels": LABELS}), "evaluate")
        gold[label] = table
        say(f"{label}: {table.num_rows} sentences held out")
    rows: dict[str, dict[str, list[float]]] = {}

    def run(name: str, data: list[dict[str, object]], seed: int, model: dict[str, object], **fit: object) -> Path:
        start = time.monotonic()
        cache = FrozenStateCache(2e9) if model.get("frozen") == 9 else shared
        training = Training.model_validate(
            {"data": data, "labels": LABELS, "model": model, "fit": {"seed": seed, "dtype": "bfloat16", **fit}}
        )
        trained = student.train(training, cache=cache)
        assert trained.student.keeps_head == (model.get("encoder") is not None)
        scores = []
        for label, table in gold.items():
            pieces = encode(table, trained.student.tokenizer, trained.student.positions)
            classes = predict(trained.student, pieces, training.fit, cache=cache)
            scores.append(100 * micro_f1(counts_of(scored(table, pieces, classes, trained.student.names))))
            rows.setdefault(name, {}).setdefault(label, []).append(scores[-1])
        n = len(trained.data.data)
        say(f"{name}, seed {seed}: {n} sentences, {time.monotonic() - start:.0f} s, F1 {np.round(scores, 1)}")
        folder = work / f"{len(rows)}-{seed}"
        student.write_model(trained, training, folder)
        return folder

    for seed in seeds:
        base = run("PUD", [news], seed, {})
        run("Europarl", [parliament], seed, {})
        run("PUD and Europarl together", [news, parliament], seed, {})
        # Frozen as the student was: only the layers above learn on
        on = {"encoder": str(base), "frozen": 7}
        low = {"learning_rate": 5e-5, "head_learning_rate": 2e-4}
        run("PUD, then Europarl", [parliament], seed, on)
        run("PUD, then Europarl, rate / 10", [parliament], seed, on, **low)
        run("PUD, then both", [news, parliament], seed, on)
        run("PUD, then both, rate / 10", [news, parliament], seed, on, **low)
        run("PUD, then the head alone, Europarl", [parliament], seed, {**on, "frozen": 9})
        show(rows)


def show(rows: dict[str, dict[str, list[float]]]) -> None:
    names = list(next(iter(rows.values())))
    print(f"| learns on | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for name, scores in rows.items():
        print(f"| {name} | {' | '.join(mean_and_range(scores[each]) for each in names)} |", flush=True)


# The encoder ---------------------------------------------------------------------------------------------------------

DOMAINS = {"enfr": "parliament (enfr)", "roen": "news (roen)", "enhi": "mixed (enhi)"}  # the rest is Wikipedia (XL-WA)
Cells = np.ndarray  # (pairs, 4): links found, sure links, found that are sure, found that are possible


def encoder(gold_pairs: int, seeds: range) -> None:
    with tempfile.TemporaryDirectory() as name:
        _encoder(Path(name), gold_pairs, seeds)


def _encoder(work: Path, gold_pairs: int, seeds: range) -> None:
    europarl = {
        short: split_file(SHARED / f"europarl-ner/{short}-europarl.test.conll02", work, first_pairs)
        for short in ("en", "es")
    }
    parliament = {
        "path": str(europarl["en"][0]), "format": "conll", "lang": "eng_Latn", "parallel_format": "conll",
        "parallel": {"spa_Latn": str(europarl["es"][0])},
    }  # fmt: skip
    news = {
        "path": str(SHARED / "ntrex-128/eng.txt"), "format": "text", "lang": "eng_Latn", "parallel_format": "text",
        "parallel": {"fin_Latn": str(SHARED / "ntrex-128/fin.txt"), "hin_Deva": str(SHARED / "ntrex-128/hin.txt")},
        "limit": N_EUROPARL // 2,
    }  # fmt: skip
    projected = {
        "Europarl es, held out": ({"path": str(europarl["en"][1])}, {"spa_Latn": str(europarl["es"][1])}, "conll"),
        "PUD": (
            {"path": str(SHARED / "uner-pud/en_pud-ud-test.iob2")},
            {"por_Latn": str(SHARED / "uner-pud/pt_pud-ud-test.iob2"),
             "swe_Latn": str(SHARED / "uner-pud/sv_pud-ud-test.iob2")},
            "uner",
        ),
    }  # fmt: skip
    gold = gold_sets(gold_pairs)
    recipes = {
        name: {"input": {**where, "format": kind, "lang": "eng_Latn", "parallel": beside}, "targets": list(beside)}
        for name, (where, beside, kind) in projected.items()
    }

    def measured(folder: str) -> tuple[dict[str, Cells], dict[str, list[counting.Counts]]]:
        aligner = BatchAligner(Encoder(folder, dtype="bfloat16", threads=1), AlignOptions(center="pair"))
        errors: dict[str, list[Cells]] = {}
        for name, own in gold.items():
            errors.setdefault(DOMAINS.get(name, "Wikipedia (XL-WA, 10)"), []).append(_link_counts(aligner, own))
            if name == "es":
                errors["Wikipedia (XL-WA es)"] = [errors["Wikipedia (XL-WA, 10)"][-1]]
        found = {name: _projected(aligner, recipe) for name, recipe in recipes.items()}
        for lang in found["PUD"]:
            found[f"PUD {lang.lang}"] = [lang]
        del found["PUD"]
        return {name: np.concatenate(cells) for name, cells in errors.items()}, found

    before = measured("builtin")
    base = [_aer(cells) for cells in before[0].values()] + [100 * micro_f1(each) for each in before[1].values()]
    say(f"builtin: {np.round(base, 1)}")
    print(f"| encoder | {' | '.join([*before[0], *before[1]])} |")
    print(f"|---|{'---:|' * len(base)}\n| as it is | {' | '.join(f'{value:.1f}' for value in base)} |", flush=True)
    for name, data, fit in (
        ("Europarl, rate 2e-5", [parliament], {}),
        ("Europarl, rate 1e-4", [parliament], {"learning_rate": 1e-4}),
        ("news, rate 2e-5", [news], {}),
        ("Europarl and news, rate 2e-5", [parliament, news], {}),
    ):
        for seed in seeds:
            start = time.monotonic()
            given = {"data": [{"input": one} for one in data], "fit": {"dtype": "bfloat16", "seed": seed, **fit}}
            adaptation = Adaptation.model_validate(given)
            learner = loop.Learner(adaptation.model, torch.device("cpu"))
            found, _, _ = pairs.load(adaptation)
            progress = loop.fit(learner, learner.pieces(found)[0], adaptation)
            folder = str(work / f"{name}-{seed}")
            learner.save(folder)
            say(f"{name}, seed {seed}: {time.monotonic() - start:.0f} s, {progress.history[-1]}")
            after = measured(folder)
            cells = [_difference(before[0][each], after[0][each]) for each in before[0]]
            for each in before[1]:
                tested = evaluation.compare(before[1][each], after[1][each], samples=2000, by="sentence")
                low, high = tested.interval.low, tested.interval.high
                cells.append(f"{100 * tested.difference:+.1f} ({100 * low:+.1f} {100 * high:+.1f})")
            print(f"| {name}, seed {seed} | {' | '.join(cells)} |", flush=True)


def _link_counts(aligner: BatchAligner, gold: list[Gold]) -> Cells:
    links, rejects = aligner.align([each.source for each in gold], [each.target for each in gold])
    assert not rejects
    links = links.hard("softmax")
    found: list[set[tuple[int, int]]] = [set() for _ in gold]
    for row, i, j in zip(links.row.tolist(), links.source.tolist(), links.target.tolist(), strict=True):
        found[row].add((i, j))
    return np.array(
        [[len(a), len(g.sure), len(a & g.sure), len(a & g.possible)] for a, g in zip(found, gold, strict=True)]
    )


def _aer(cells: Cells) -> float:
    n_links, n_sure, in_sure, in_possible = cells.sum(axis=-2).astype(float).T
    return 100 * (1 - (in_sure + in_possible) / (n_links + n_sure))


def _difference(before: Cells, after: Cells, samples: int = 2000) -> str:
    """Points of AER, after minus before, with a paired 95 % bootstrap interval over sentence pairs."""
    drawn = np.random.default_rng(0).multinomial(len(before), np.full(len(before), 1 / len(before)), size=samples)
    resampled = [_aer((drawn @ cells)[:, None, :]) for cells in (before, after)]
    low, high = np.percentile(resampled[1] - resampled[0], [2.5, 97.5])
    return f"{_aer(after) - _aer(before):+.1f} ({low:+.1f} {high:+.1f})"


def _projected(aligner: BatchAligner, recipe: dict[str, object]) -> list[counting.Counts]:
    """Counts of a projection with the default matching, both passes, without Ray."""
    checked = recipe_load.load_recipe(recipe)
    counter = counting.Counter()
    for unit in build_index(checked).units:
        table = AlignStage(checked, aligner)(read_unit(unit, ReadPlan(checked)))
        first = rows_of.read(MatchStage(checked)(table))
        statistics = prior.merge([prior.count(first.source_tokens, first.tokens, first.earlier)])
        counter.add(MatchStage(checked, prior.Prior(prior.prune(statistics)))(table))
    return counter.counts()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("tagger", "encoder"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--pairs", type=int, default=10_000, help="of each set of gold links, at most")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    tagger(seeds) if options.what == "tagger" else encoder(options.pairs, seeds)


if __name__ == "__main__":
    main()
