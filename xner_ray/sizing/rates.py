"""Rows a second of a stage: those of rates.toml, and by the roofline those of GPUs that nobody has measured.

A rate is of one CPU thread, or of a whole GPU, and says whether it was measured or simulated. One that states its words
falls with longer rows.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from xner_ray.recipe.model import Recipe
from xner_ray.sizing import roofline

# Subwords of XLM-R's vocabulary for each word of the English side of NTREX-128: English 1.4, Swahili 1.6, Zulu 2.0,
# ten languages but Yoruba (3.5) at most that.
SOURCE_TOKENS, TARGET_TOKENS = 1.4, 1.8
PADDING = 1.09  # padded tokens for each token in the translator's batches (docs/translation.md)
_LEAST_TOKENS = 4  # of a sentence: the language, the end, and a word
_STEP_ELEMENTS = 1 << 28  # as `translate.nllb` has it
# Seconds of the host for a step of decoding, by layers (12, more) and beams (greedy, more): transformers at real depth
# and tiny width, one thread of 2 CPU cores, 2026-11-28. A shorter step of the device waits for it.
HOST_STEP_S = {(False, False): 12.7e-3, (False, True): 14.4e-3, (True, False): 18e-3, (True, True): 32e-3}
_TWO_THIRDS, _BUILTIN_LAYER = 2 / 3, 7  # of an encoder's layers, `align.layer: auto`
_TAGGER_LAYERS = 9  # of the built-in tagger, the aligner's seven below
_FLOAT = {"auto": "float32"}

Kind = Literal["measured", "simulated"]


@dataclass(frozen=True)
class Rate:
    """Rows a second of one CPU thread, or of a whole GPU. said: where it comes from, in words."""

    rows_per_s: float
    kind: Kind
    said: str


def gpu(name: str) -> roofline.Device | None:
    """Return a GPU by its name, in whatever case."""
    return next((device for known, device in roofline.DEVICES.items() if known.lower() == name.lower()), None)


def rate_of(recipe: Recipe, stage: str, words: float, device: roofline.Device | None) -> Rate | str:
    """Return the rate of a stage over rows of so many words a source side, or what is missing for one.

    device: the GPU of stages that ask for one; None: it was not named.
    """
    section = getattr(recipe, stage)
    if stage == "match" and recipe.projector == "match":
        return _listed(stage, "two matchings" if recipe.two_passes else "one matching", words)
    if recipe.projector == "marker" or stage in (
        "image",
        "back_translate",
        "evidence",
        "likelihood",
        "constrained",
        "match",
    ):
        return f"no rate of {stage} is known"
    engine, models = recipe.engine_of(stage), dict(recipe.models())
    model = models.get(f"{stage}.encoder" if stage == "align" else f"{stage}.model", "").partition("@")[0]
    keys: dict[str, Any] = {"model": model, "beams": getattr(section, "beams", 1)}
    name = "tag" if stage == "target_tag" else stage
    if not section.gpus:
        dtype = getattr(section, "dtype", "")
        found = _listed(name, engine, words, **keys, beside=_beside(recipe, stage), dtype=_FLOAT.get(dtype, dtype))
        sides = _sides(recipe, stage)
        return replace(found, rows_per_s=found.rows_per_s / sides) if isinstance(found, Rate) else found
    if device is None:
        return f"{stage} runs on a GPU that is not named (--assume gpu={next(iter(roofline.DEVICES))})"
    if isinstance(found := _listed(name, engine, words, device=device.name, **keys), Rate):
        return found
    shape = roofline.MODELS.get(model)
    if shape is None or engine not in ("nllb", "ctranslate2", "batched", "hf", "builtin"):
        return f"no rate of {stage} with engine {engine} and model {model} is known on a GPU"
    return _simulated(recipe, stage, shape, words, device)


def _simulated(recipe: Recipe, stage: str, shape: roofline.Model, words: float, device: roofline.Device) -> Rate:
    source, target = (max(_LEAST_TOKENS, round(words * each)) for each in (SOURCE_TOKENS, TARGET_TOKENS))
    read, written = (target, source) if recipe.direction == "test" else (source, target)
    padded = round(read * PADDING)
    section = getattr(recipe, stage)
    sharing = max(1, round(1 / section.gpus))  # workers on one GPU
    budget = section.micro_batch_tokens or section.gpu_tokens
    if stage == "translate":
        beams = recipe.translate.beams
        rows = max(1, min(budget // padded, _STEP_ELEMENTS // (beams * shape.vocabulary)))
        host = HOST_STEP_S[shape.decoder_layers > 12, beams > 1]
        steps = [
            roofline.decode_step_seconds(shape, device, rows, beams, number, source_tokens=padded)
            for number in range(round(written * PADDING))
        ]
        late = sum(step < host for step in steps)
        reading = roofline.encode_seconds(shape, device, rows, padded)
        busy, seconds = reading + sum(steps), reading + sum(max(step, host) for step in steps)
        how = f"{beams} beams" if beams > 1 else "greedy"
        how += f", {late} of {len(steps)} steps as slow as the host" if late else ""
    elif stage == "align":
        layers = _layers(recipe, shape)
        both = (source, target)
        rows = max(1, budget // max(both))
        once = len(recipe.languages) if recipe.direction == "train" else 1  # a source side is read once for all of them
        sides = [roofline.encode_seconds(shape, device, rows, tokens, layers) for tokens in both]
        busy = seconds = sides[0] / once + sides[1]
        how = f"{layers} layers, both sides of a row" + (
            f", the source's once for {once} languages" if once > 1 else ""
        )
    else:
        tokens = target if stage == "target_tag" else source
        rows = max(1, budget // tokens)
        own = section.engine == "builtin"
        layers = _TAGGER_LAYERS - (_BUILTIN_LAYER if _beside(recipe, stage) else 0) if own else shape.encoder_layers
        busy = roofline.encode_seconds(shape, device, rows, tokens, layers) * _sides(recipe, stage)
        how = f"{layers} layers" if own else "all layers"
        seconds = busy
    waits = _host_seconds(stage, words) * _sides(recipe, stage)
    said = f"roofline of {device.name}, {shape.name}, {how}; and {waits * 1e3:.2g} ms a row of its host, measured"
    said += f"; {sharing} workers share it" if sharing > 1 else ""
    # While one worker's host is at work, the device has those of the others
    return Rate(min(sharing / (seconds / rows + waits), rows / busy), "simulated", said)


def _sides(recipe: Recipe, stage: str) -> float:
    """Return how many sentences a stage reads for a row, where that is not the aligner's two.

    target_tag reads the target and, where it judges entities and `tag` has not given its opinions, the source, once
    for all languages.
    """
    if stage != "target_tag" or not recipe.opines or recipe.tag_opines:
        return 1.0
    return 1.0 + 1.0 / (len(recipe.languages) if recipe.direction == "train" else 1)


def _beside(recipe: Recipe, stage: str) -> str:
    """Return `align` if a tagger's lower layers are computed for the aligner anyway, on the same device."""
    section = getattr(recipe, stage)
    shared = stage in ("tag", "target_tag") and section.engine == "builtin" and recipe.aligned
    shared = shared and recipe.align.encoder == "builtin" and recipe.align.layer in ("auto", _BUILTIN_LAYER)
    return "align" if shared and section.gpus == recipe.align.gpus else ""


def _host_seconds(stage: str, words: float) -> float:
    """Return the time of a row in which a device waits for its host."""
    name = "tag" if stage == "target_tag" else stage
    row = next(row for row in _file()["host"] if row["stage"] == name)
    return float(row["ms"]) / 1e3 * words / float(row["words"])


def _layers(recipe: Recipe, shape: roofline.Model) -> int:
    layer = recipe.align.layer
    if layer == "auto":
        return _BUILTIN_LAYER if shape.name == "builtin" else round(shape.encoder_layers * _TWO_THIRDS)
    return max(layer) if isinstance(layer, list) else layer


def read_and_write(words: float) -> Rate:
    """Return the rate of all that is around the stages, of one CPU: reading, Ray, part files, sealing."""
    found = _listed("read and write", "engine", words)
    assert isinstance(found, Rate)
    return found


def _listed(stage: str, engine: str, words: float, device: str = "cpu", **keys: Any) -> Rate | str:
    """Return a rate of the table; keys that a row does not state, it does not depend on."""
    asked = {"stage": stage, "engine": engine, **keys}
    for row in table():
        if row.get("device", "cpu") == device and all(row.get(key, value) == value for key, value in asked.items()):
            longer = words / row["words"] if "words" in row else 1.0
            said = f"{row['machine']}; {row['source']}, {row['date']}"
            return Rate(row["rows_per_s"] / max(longer, 1e-9), row["kind"], said)
    said = " ".join(str(value) for key, value in keys.items() if value and key != "beams")
    return f"no rate of {stage} with engine {engine} {said} is known on a CPU".replace("  ", " ")


def table() -> list[dict[str, Any]]:
    """Return the rates of rates.toml."""
    return _file()["rate"]


@cache
def _file() -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = tomllib.loads((files(__package__) / "rates.toml").read_text("utf-8"))
    return found
