"""A recipe made definite before anything is loaded: models pinned, languages and labels checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata

from xner_ray.errors import RecipeError, require
from xner_ray.match import plugin
from xner_ray.models import e5, hub
from xner_ray.read.inputs import identities as input_identities
from xner_ray.recipe.model import Recipe, _labels_of
from xner_ray.recipe.sections import BUILTIN_TAGGER, TINY_NLLB

_PACKAGES = {engine: (engine, engine) for engine in ("ctranslate2", "simalign")} | {"spacy": ("spacy", "builtin")}
_OF_TRANSLATORS = ("translate", "back_translate", "likelihood")


Inputs = tuple[dict[str, str], dict[str, dict[str, str]]]


def check_cheap(recipe: Recipe) -> Inputs:
    """Check what needs no model library, and return the identities of the inputs (`read.inputs.identities`).

    RecipeError or InputError for settings that cannot work, a missing file, plug-in or folder of a model;
    MissingExtraError for a missing package. `resolve` needs torch and transformers, whose import takes seconds.
    """
    _check_settings(recipe)
    for _, model in recipe.models():
        if "://" not in model:
            hub.local_folder(model)
    if recipe.input.labels.keep is not None and recipe.target_tag.engine in ("spacy", "llm"):
        check_tags(recipe, recipe.input.labels.keep)
    return input_identities(recipe)


def _check_settings(recipe: Recipe) -> None:
    """Check settings against one another and against the installed packages."""
    from xner_ray.models import vllm

    if recipe.projector == "combine":
        raise RecipeError("projector: combine is made of finished runs by the command `xner-ray combine`")
    if "likelihood" in recipe.stages and "likelihood" not in recipe.match.scores:
        raise RecipeError("likelihood.engine: its score has no weight; add likelihood to match.scores")
    for name in recipe.stages:
        engine = recipe.engine_of(name)
        if engine == "llm":
            vllm.require(getattr(recipe, name), name)
        elif engine in _PACKAGES:
            require(*_PACKAGES[engine], f"{name}.engine {engine}")
    if "translate" in recipe.stages and recipe.translate.health.language != "off":
        require("py3langid", "lid", "translate.health.language")
    if ("align.encoder", "builtin") in recipe.models():
        e5.weights_file()
    if "evidence" in recipe.stages:
        plugin.read(recipe.evidence)


def resolve(recipe: Recipe) -> tuple[Recipe, dict[str, str]]:
    """The recipe with model revisions pinned, and each model's identity.

    RecipeError for a model, layer or language code that cannot work. Reads configurations and tokenizers, no weights.
    """
    # torch and transformers take seconds, and most commands need none of this
    from xner_ray.align.encoder import BUILTIN, Encoder
    from xner_ray.models import vllm
    from xner_ray.tag import hf, spacy
    from xner_ray.tag import llm as llm_tagger
    from xner_ray.translate import apertium, ct2, nllb
    from xner_ray.translate import llm as llm_translator

    _check_settings(recipe)
    names = recipe.stages
    identities: dict[str, str] = {}
    missing = sorted(set(recipe.translations) - set(recipe.input.parallel))
    given = recipe.languages if recipe.direction == "test" else [recipe.source_side]
    both_sides = [recipe.source_side, *recipe.languages]
    directions = [(lang, recipe.source_lang) for lang in given] if recipe.direction == "test" else []
    directions = directions or [(recipe.source_side, lang) for lang in missing]
    for name, languages in zip(_OF_TRANSLATORS, ([*given, *missing], both_sides, both_sides), strict=True):
        if name not in names:
            continue
        section = getattr(recipe, name)
        engine = recipe.translate_engine if name == "translate" else section.engine
        if engine == "apertium":
            asked = directions if name == "translate" else [(recipe.source_side, lang) for lang in recipe.languages]
            apertium.check(section, asked, name)  # all at once, so that the message has every package
            translated = missing if name == "translate" and recipe.direction == "train" else recipe.languages
            for lang, direction in zip(translated, asked, strict=True):
                identities[f"{name}.engine {lang}"] = apertium.check(section, [direction], name)
            continue
        model, identities[f"{name}.model"] = hub.pin(section.model)
        section = section.model_copy(update={"model": model})
        if engine == "llm":
            vllm.check(section, name)
            identities[f"{name}.engine"] = vllm.identity(llm_translator.PROMPT)
        elif engine == "ctranslate2":
            ct2.check(section, languages, name)
            identities[f"{name}.engine"] = f"ctranslate2 {metadata.version('ctranslate2')}"
        else:
            nllb.check(section, languages, name)
        recipe = recipe.model_copy(update={name: section})
    if "translate" in names and recipe.translate.health.language != "off":
        identities["translate.health"] = f"py3langid {metadata.version('py3langid')}"
    for name in ("tag", "target_tag"):
        if name not in names:
            continue
        section = getattr(recipe, name)
        if section.engine == "spacy":
            model, identities[f"{name}.model"] = section.model or BUILTIN_TAGGER, spacy.check(section, name)
        else:
            model, identities[f"{name}.model"] = hub.pin(section.model)
        section = section.model_copy(update={"model": model})
        if section.engine == "hf":
            section = section.model_copy(update={"labels": hf.check(section, name)})
        elif section.engine == "llm":
            vllm.check(section, name)
            identities[f"{name}.engine"] = vllm.identity(llm_tagger.PROMPT)
        recipe = recipe.model_copy(update={name: section})
    if "evidence" in names:
        section, identities["evidence.plugin"] = plugin.read(recipe.evidence)
        recipe = recipe.model_copy(update={"evidence": section})
    if "align" not in names:
        return recipe, identities
    if recipe.align.encoder == BUILTIN:
        identities["align.encoder"] = e5.SHA256
    else:
        encoder, identities["align.encoder"] = hub.pin(recipe.align.encoder)
        recipe = recipe.model_copy(update={"align": recipe.align.model_copy(update={"encoder": encoder})})
    layers = Encoder.check(recipe.align.encoder, recipe.align.layer)
    layer = layers[0] if len(layers) == 1 else layers
    return recipe.model_copy(update={"align": recipe.align.model_copy(update={"layer": layer})}), identities


def check_tags(recipe: Recipe, labels: Sequence[str]) -> None:
    """RecipeError if the target side's tagger has none of the run's labels, which makes its score 0 everywhere."""
    used = "tagger" in {*recipe.match.scores, *recipe.match.filters} and recipe.match.solver != "heuristic"
    used = used and recipe.projector == "match"
    known = set(_labels_of(recipe.target_tag))
    if used and labels and not known & set(labels):
        raise RecipeError(
            f"target_tag.labels: the tagger's labels ({', '.join(sorted(known))}) are none of this run's "
            f"({', '.join(labels)}), so the score tagger would be 0 everywhere; map them under target_tag.labels, or "
            "take tagger_spans, which compares no labels"
        )


def model_lines(recipe: Recipe, identities: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(key, name, identity) of every model that the run loads."""
    lines = []
    for key, identity in identities.items():
        section, field = key.split(".")
        name = "language" if field == "health" else str(getattr(getattr(recipe, section), field.split(" ")[0]))
        lines.append((key, f"{name}, hidden state {recipe.align.layer}" if section == "align" else name, identity))
    return lines


def unweighted(recipe: Recipe) -> list[str]:
    """Scores of a plug-in that decide nothing; they are computed and stored all the same, for `rematch`."""
    used = {*recipe.match.scores, *recipe.match.filters} if recipe.match.solver != "heuristic" else set()
    return [
        f"evidence.plugin: {name} is computed and stored, but decides nothing: no weight and no filter has it"
        for name in recipe.evidence.names
        if name not in used
    ]


def notices(recipe: Recipe) -> list[str]:
    """What a user should know before spending hours."""
    found = unweighted(recipe)
    sections = {name: getattr(recipe, name) for name in recipe.stages if name in _OF_TRANSLATORS}
    models = {section.model for section in sections.values() if section.engine not in ("apertium", "llm")}
    if models - {TINY_NLLB}:
        found.append("NLLB-200 weights are licensed CC BY-NC 4.0: no commercial use of the weights")
    if TINY_NLLB in models:
        found.append("tiny-nllb is a test model for template sentences, not a translator")
    chats = sorted({str(getattr(recipe, name).model) for name in recipe.chats})
    found += [f"{model} has its own licence, which may bind what is made with it: see its card" for model in chats]
    return found
