"""Make the built-in tagger: train a student on Universal NER, keep what differs from the encoder, score that.

    python jobs/uner_tagger/make.py DATA/uner DATA/uner-pud runs/uner_tagger xner_ray/tag/uner

The same command goes on where it was stopped; it takes 15 minutes of one core. It learns from the first sentences of
the `train` files of seven languages, and from the `test` file of English EWT, which has no `train`; the `dev` files
alone chose the settings below; PUD is for reporting.
The student is made by `xner-ray train`: nine lower layers of the built-in encoder, seven of them frozen. So two layers
and the classifier are all that is written, in float16.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

import xner_ray
from xner_ray.storage.cache import sha256
from xner_ray.train.recipe import FROZEN_BUILTIN, KEPT_BUILTIN

CORPORA = {  # language: folder, stem of its files
    "eng_Latn": ("UNER_English-EWT", "en_ewt"),
    "dan_Latn": ("UNER_Danish-DDT", "da_ddt"),
    "hrv_Latn": ("UNER_Croatian-SET", "hr_set"),
    "por_Latn": ("UNER_Portuguese-Bosque", "pt_bosque"),
    "slk_Latn": ("UNER_Slovak-SNK", "sk_snk"),
    "srp_Cyrl": ("UNER_Serbian-SET", "sr_set"),  # in Latin letters, for which there is no code
    "swe_Latn": ("UNER_Swedish-Talbanken", "sv_talbanken"),
    "zho_Hans": ("UNER_Chinese-GSDSIMP", "zh_gsdsimp"),
}
PUD = {"eng_Latn": "en", "por_Latn": "pt", "swe_Latn": "sv"}
LAYERS, STATE = KEPT_BUILTIN - FROZEN_BUILTIN, FROZEN_BUILTIN
LIMIT = 1000  # sentences of a `train` file, its first ones


def recipe(data: Path) -> dict[str, Any]:
    """Return the recipe of the student."""

    def source(lang: str, split: str, **more: Any) -> dict[str, Any]:
        folder, stem = CORPORA[lang]
        path = str(data / folder / f"{stem}-ud-{split}.iob2")
        limit = LIMIT if split == "train" else None
        return {"input": {"path": path, "format": "uner", "lang": lang, "limit": limit}, **more}

    learnt = [source(lang, "test", weight=2.0) if lang == "eng_Latn" else source(lang, "train") for lang in CORPORA]
    return {
        "data": learnt,
        "validation": [source(lang, "dev") for lang in CORPORA],
        "labels": {"keep": ["PER", "LOC", "ORG"]},
        "model": {"encoder": "builtin", "layers": STATE + LAYERS, "frozen": STATE},
        "fit": {"epochs": 2, "batch_sentences": 32, "cache_gb": 4.0},
        "resources": {"threads": 1},
    }


def pack(model: Path, out: Path) -> None:
    """Write the layers above the shared state, the classifier and what they need to be read."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    upper = {}
    for name, value in load_file(model / "model.safetensors").items():
        layer, _, rest = name.removeprefix("bert.encoder.layer.").partition(".")
        if name.startswith("bert.encoder.layer.") and int(layer) >= STATE:
            upper[f"layers.{int(layer) - STATE}.{rest}"] = value.half().contiguous()
        elif name.startswith("classifier."):
            upper[name] = value.half().contiguous()
    out.mkdir(parents=True, exist_ok=True)
    save_file(upper, out / "tagger.safetensors")
    classes = [config["id2label"][str(index)] for index in range(len(config["id2label"]))]
    about = {"state": STATE, "layers": LAYERS, "classes": classes, "sha256": sha256(out / "tagger.safetensors")}
    (out / "config.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def score(path: Path, lang: str, run: Path) -> dict[str, Any]:
    """Tag a file with gold by the built-in tagger; return its scores as `xner-ray evaluate` has them."""
    transfer = {
        "direction": "test",
        "projector": "transfer",
        "input": {"path": str(path), "format": "uner", "lang": lang, "labels": {"keep": ["PER", "LOC", "ORG"]}},
        "target_tag": {"engine": "builtin"},
        "engine": {"executor": "inline"},
    }
    xner_ray.project(transfer, run)
    found: dict[str, Any] = xner_ray.evaluate(run).to_dict()["languages"][0]
    return found


def table(data: Path, pud: Path, work: Path) -> list[str]:
    """Return the lines of the table of figures; runs that are finished are not made again."""
    files = {f"{folder} dev": (data / folder / f"{stem}-ud-dev.iob2", lang) for lang, (folder, stem) in CORPORA.items()}
    files |= {f"PUD {lang}": (pud / f"{stem}_pud-ud-test.iob2", lang) for lang, stem in PUD.items()}
    lines = ["| set | sentences | entities | precision | recall | F1 | PER | LOC | ORG |", "|---|" + "---:|" * 8]
    mean = []
    for name, (path, lang) in files.items():
        found = score(path, lang, work / name.replace(" ", "_"))
        overall = found["overall"]
        mean += [overall["f1"]] * name.endswith("dev")
        figures = [overall["precision"], overall["recall"], overall["f1"]]
        figures += [found["labels"][label]["f1"] for label in ("PER", "LOC", "ORG")]
        shown = " | ".join(f"{100 * figure:.1f}" for figure in figures)
        lines.append(f"| {name} | {found['rows']} | {overall['gold']} | {shown} |")
    lines.insert(2 + len(mean), f"| mean of dev | | | | | {100 * sum(mean) / len(mean):.1f} | | | |")
    return lines


def main() -> None:
    """Train, pack, score, and write the card around the figures."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("data", "pud", "work", "out"):
        arguments.add_argument(name, type=Path)
    given = arguments.parse_args()
    model = given.work / "model"
    xner_ray.train(recipe(given.data.resolve()), model)
    before = (given.out / "tagger.safetensors").read_bytes() if (given.out / "tagger.safetensors").exists() else b""
    pack(model, given.out)
    if (given.out / "tagger.safetensors").read_bytes() != before:
        shutil.rmtree(given.work / "runs", ignore_errors=True)
    shutil.copyfile(given.data / CORPORA["eng_Latn"][0] / "LICENSE.txt", given.out / "LICENSE.txt")
    lines = "\n".join(table(given.data.resolve(), given.pud.resolve(), given.work / "runs"))
    template = (Path(__file__).parent / "card.md").read_text(encoding="utf-8")
    (given.out / "README.md").write_text(template.replace("FIGURES", lines), encoding="utf-8")
    print(lines)


if __name__ == "__main__":
    main()
