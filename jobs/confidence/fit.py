"""Fit the maps that make probabilities of entities' scores, and say how they do on sets that they have not seen.

    python jobs/confidence/fit.py DATA runs/confidence [--write]

DATA: a folder with the sets of `SETS`; what is not there is left out. The same command goes on where it was stopped; it
takes ten minutes of one core. Every set is projected by the default recipe, from given labels or from those of two
taggers, in both directions where both sides have gold, and its entities are compared with gold.

Prints a table: each set by maps fitted on all sets but those of its language (calibration error, AUROC), beside its
scores of the matching taken as probabilities. --write writes the maps fitted on all sets into the package.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import xner_ray
from xner_ray.data.row import OK, SCALE
from xner_ray.evaluate.calibration import calibration
from xner_ray.evaluate.counting import by_score, entities
from xner_ray.match import projection
from xner_ray.match.confidence.maps import ALONE, FILE, TAGGED, Seen, features
from xner_ray.match.prior import Prior, count, merge, prune
from xner_ray.match.rows import Rows, read, seen
from xner_ray.recipe.sections import Match
from xner_ray.run.folder import RunFolder
from xner_ray.run.parts import read_part

ROOT = Path(__file__).parents[2]
PRIORS = {"prior": True, "no prior": False}
MAPS = {"tagged": TAGGED, "alone": ALONE}
PENALTY = 3.0  # ridge, on standardised features; 1 to 20 gave the same calibration errors within 0.01
MASS = 500  # entities that a group of sets counts as


@dataclass(frozen=True)
class Set:
    """A language of a run. tongues: its languages with gold; a set is judged by maps fitted on sets without them."""

    run: str
    lang: str
    tongues: frozenset[str]
    shown: bool  # in the table
    labelled: bool = False  # people's labels were projected

    @property
    def group(self) -> tuple[frozenset[str], bool]:
        return self.tongues, self.labelled


def recipes(data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Return the recipes of all runs whose data is there, by name."""
    europarl = {
        "eng_Latn": "europarl-ner/en-europarl.test.conll02",
        "spa_Latn": "europarl-ner/es-europarl.test.conll02",
    }
    pud = {lang: f"uner-pud/{short}_pud-ud-test.iob2" for lang, short in PUD.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, files, kind in (("europarl", europarl, "conll"), ("pud", pud, "uner")):
        if not (data / files["eng_Latn"]).exists():
            continue
        for lang, path in files.items():
            others = {other: str(data / file) for other, file in files.items() if other != lang}
            given = {"path": str(data / path), "format": kind, "lang": lang}
            found[f"{name}-{lang}"] = {"input": {**given, "parallel": others}, "targets": [*others]}
            if lang != "eng_Latn":
                for engine in ("builtin", "spacy"):
                    found[f"{name}-{lang}-{engine}"] = tagged(
                        {**given, "parallel": {"eng_Latn": others["eng_Latn"]}}, engine
                    )
    if (data / "masakha-join-dev").is_dir():
        joined = folder / "masakha_input"
        subprocess.run([sys.executable, ROOT / "jobs/masakha_join.py", data / "masakha-join-dev", joined], check=True)
        given = {"path": f"{joined}/{{lang}}.conll", "lang": ["lug_Latn", "pcm_Latn", "twi_Latn"]}
        given["parallel"] = {"eng_Latn": f"{joined}/{{lang}}.eng_Latn.txt"}
        found |= {f"masakha-{engine}": tagged(given, engine) for engine in ("builtin", "spacy")}
    if (data / "bambara-chain").is_dir():
        chain = folder / "bambara_input"
        subprocess.run([sys.executable, ROOT / "jobs/bambara.py", data / "bambara-chain", chain], check=True)
        given = {"path": f"{chain}/{{lang}}.conll", "lang": "bam_Latn", "links": f"{chain}/{{lang}}.links"}
        given["parallel"] = {"eng_Latn": f"{chain}/{{lang}}.eng_Latn.conll"}
        found["bambara"] = {**tagged(given, "provided"), "align": {"backend": "provided"}}
    return found


PUD = {"eng_Latn": "en", "por_Latn": "pt", "swe_Latn": "sv"}


def tagged(given: dict[str, Any], engine: str) -> dict[str, Any]:
    """Return the recipe of a run whose English side is tagged and whose own side has gold."""
    given = {**given, "labels": {"keep": ["PER", "LOC", "ORG"]}}
    return {"direction": "test", "input": given, "source_lang": "eng_Latn", "tag": {"engine": engine}}


def sets(name: str, recipe: dict[str, Any]) -> list[Set]:
    """Return the sets of a run."""
    own = recipe["input"]["lang"]
    labelled = "targets" in recipe
    langs = recipe.get("targets") or (own if isinstance(own, list) else [own])
    return [
        Set(
            name,
            lang,
            frozenset({lang, own if labelled else lang}) - {"eng_Latn"},
            shown=own == "eng_Latn" or name in ("masakha-builtin", "bambara"),
            labelled=labelled,
        )
        for lang in langs
    ]


@dataclass(frozen=True)
class Found:
    """The projected entities of a set. match: their scores in the matching. right: 0 or 1."""

    features: dict[str, np.ndarray[Any, Any]]
    read: np.ndarray[Any, np.dtype[np.bool_]]
    match: np.ndarray[Any, Any]
    right: np.ndarray[Any, Any]


def projected(one: Set, folder: Path) -> dict[str, Found]:
    """Match the rows of a finished run again, without a prior and with one, and compare with gold."""
    parts = [path for unit, path in RunFolder(str(folder / one.run)).final_parts().items() if one.lang in unit]
    table = pa.concat_tables([read_part(part) for part in parts])
    table = table.filter(pc.equal(table.column("status"), OK)).combine_chunks()
    settings = Match(confidence="none")
    first = projection.project(table, settings, "itermax", None)
    rows = read(first)
    prior = Prior(prune(merge([count(rows.source_tokens, rows.tokens, rows.earlier)])))
    return {name: compared(table, rows, one, settings, prior if used else None) for name, used in PRIORS.items()}


def compared(table: pa.Table, rows: Rows, one: Set, settings: Match, prior: Prior | None) -> Found:
    chosen = projection.matched(rows, settings, "itermax", prior)[1].chosen
    what: Seen = seen(rows, chosen, labelled=one.labelled)
    names: dict[str, int] = {}
    gold = entities(table.column("gold_spans").combine_chunks(), names)
    label = np.array([names.get(each, -1) for each in rows.labels.take(pa.array(chosen.entity)).to_pylist()])
    ours = np.stack([rows.batch.row[chosen.entity], chosen.start, chosen.end, label], axis=1)
    right = np.array([each in {*map(tuple, gold.tolist())} for each in map(tuple, ours.tolist())])
    return Found(features(what), what.read, chosen.score / SCALE, right.astype(np.int64))


def fit(parts: list[tuple[Set, Found]], names: tuple[str, ...], mask: bool) -> dict[str, float]:
    """Return the weights of a map. mask: whether only entities that a tagger has read count."""
    groups = Counter(one.group for one, _ in parts)
    rows, right, weight = [], [], []
    for one, found in parts:
        kept = found.read if mask else np.ones(len(found.right), dtype=bool)
        rows.append(np.stack([found.features[name][kept] for name in names], axis=1))
        right.append(found.right[kept])
        weight.append(np.full(kept.sum(), MASS / max(1, kept.sum()) / groups[one.group]))
    scaler = StandardScaler().fit(np.concatenate(rows))
    model = LogisticRegression(C=1 / PENALTY, tol=1e-10, max_iter=1000)
    model.fit(scaler.transform(np.concatenate(rows)), np.concatenate(right), np.concatenate(weight))
    slopes = model.coef_[0] / scaler.scale_
    intercept = model.intercept_[0] - slopes @ scaler.mean_
    return {"intercept": round(float(intercept), 4)} | {
        name: round(float(slope), 4) for name, slope in zip(names, slopes, strict=True)
    }


def applied(found: Found, maps: dict[str, dict[str, float]], tagger: bool) -> np.ndarray[Any, Any]:
    """Return the probabilities of a set's entities."""
    values = {}
    for name, weights in maps.items():
        total = weights["intercept"] + sum(weights[key] * found.features[key] for key in MAPS[name])
        values[name] = 1 / (1 + np.exp(-total))
    return np.where(found.read & tagger, values["tagged"], values["alone"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    folder: Path = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[tuple[Set, Found]]] = {name: [] for name in PRIORS}
    for name, recipe in recipes(options.data.resolve(), folder).items():
        recipe |= {"target_tag": {"engine": "builtin"}, "engine": {"executor": "inline"}}
        xner_ray.project(recipe, folder / name)
        for one in sets(name, recipe):
            for prior, each in projected(one, folder).items():
                found[prior].append((one, each))
    lines = []
    for prior, all_sets in found.items():
        for one, own in all_sets:
            others = [each for each in all_sets if not each[0].tongues & one.tongues]
            maps = {name: fit(others, names, name == "tagged") for name, names in MAPS.items()}
            known = [own.match, applied(own, maps, False), applied(own, maps, True)]
            figures = [calibration(by_score(each, own.right)) for each in known]
            lines.append((one, prior, len(own.right), own.right.mean(), figures))
    print("| set | prior | entities | right | as matched | | links and boundaries | | and the tagger | |")
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for one, prior, n, right, figures in sorted(lines, key=lambda line: (not line[0].shown, line[1] != "prior")):
        cells = " | ".join(f"{each.error:.3f} | {each.auroc:.3f}" for each in figures if each is not None)
        print(f"| {one.run} {one.lang} | {prior} | {n:,} | {right:.3f} | {cells} |")
    if options.write:
        maps = {
            f"{name}, {prior}": fit(all_sets, names, name == "tagged")
            for prior, all_sets in found.items()
            for name, names in MAPS.items()
        }
        about = {"made by": "jobs/confidence/fit.py", "sets": sorted(f"{one.run} {one.lang}" for one, _ in all_sets)}
        FILE.write_text(json.dumps({**about, "maps": maps}, indent=1) + "\n", encoding="utf-8")
        print(f"written: {FILE}")


if __name__ == "__main__":
    main()
