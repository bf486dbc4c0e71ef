"""Check a recipe, the cheap things first, and make it definite: models pinned, layers and labels known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import Literal

import pyarrow as pa

from xner_ray.data.arrow import is_text
from xner_ray.errors import MissingExtraError, RecipeError, did_you_mean
from xner_ray.extras import require
from xner_ray.models import cpu_dtype, e5, hub, vllm
from xner_ray.models.device import kind_of_device
from xner_ray.read.inputs import Texts, find_texts
from xner_ray.recipe.images import TINY_CLIP, TINY_OWL
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import TINY_NLLB, Resolved
from xner_ray.run import repair
from xner_ray.run.folder import RunFolder

_TRANSLATORS = {
    "nllb": "xner_ray.translate.nllb",
    "ctranslate2": "xner_ray.translate.ct2",
    "apertium": "xner_ray.translate.apertium",
    "llm": "xner_ray.translate.llm",
}
_TAGGERS = {name: f"xner_ray.tag.{name}" for name in ("builtin", "hf", "spacy", "llm")}
# The module of each engine; its `resolve` makes a section definite.
_BACKENDS = {
    **dict.fromkeys(("translate", "back_translate", "likelihood"), _TRANSLATORS),
    **dict.fromkeys(("tag", "target_tag"), _TAGGERS),
    "image": {"clip": "xner_ray.vision.towers", "owl": "xner_ray.vision.grounder"},
    "constrained": {"nllb": "xner_ray.translate.constrained_stage"},
    "align": dict.fromkeys(("batched", "simalign"), "xner_ray.align.encoder"),
    "evidence": {"plugin": "xner_ray.match.plugin"},
}
_TRANSLATING = ("translate", "back_translate", "likelihood", "constrained")  # have directions
_ENGINE = "translate.engine"
_LIGHT = ("spacy", "plugin")  # engines that resolve without a model library
# What computes in `dtype`, by engine (`models.cpu_dtype`).
_WAYS: dict[str, Literal["encoder", "whole", "ctranslate2"]]
_WAYS = {"batched": "encoder", "builtin": "encoder", "nllb": "whole", "hf": "whole", "ctranslate2": "ctranslate2"}


def check_cheap(recipe: Recipe, lacks: Callable[[str], None] | None = None) -> Texts:
    """Check what needs no model library; return the input, whose files are listed for that.

    lacks: gets the message of a missing package, which is an error without it. RecipeError or InputError for settings
    that cannot work, a missing file, plug-in or folder of a model; MissingExtraError for a missing package. `resolve`
    needs torch and transformers, whose import takes seconds.
    """
    _check_settings(recipe, lacks)
    for _, model in recipe.models():
        if "://" not in model:
            hub.local_folder(model)
    if recipe.input.labels.keep is not None and recipe.target_tag.engine in ("spacy", "llm"):
        check_tags(recipe, recipe.input.labels.keep)
    texts = find_texts(recipe)
    repair.require_whole_files(texts.files)
    return texts


def _check_settings(recipe: Recipe, lacks: Callable[[str], None] | None = None) -> None:
    """Check settings against one another and against what is installed; lacks: as of `check_cheap`."""
    if recipe.projector == "combine":
        raise RecipeError("projector: combine is made of finished runs by the command `xner-ray combine`")
    if "likelihood" in recipe.stages and "likelihood" not in recipe.match.scores:
        raise RecipeError("likelihood.engine: its score has no weight; add likelihood to match.scores")
    for key, name in recipe.contexts.items():
        if key.partition(".")[0] not in recipe.stages:
            raise RecipeError(f"{key}: no tagger runs that could read {name!r}; set engine there: builtin or hf")
        if recipe.input.carry is not None and name not in recipe.input.carry:
            raise RecipeError(f"{key}: {name!r} does not come along; add it to input.carry")
    checks: list[Callable[[], object]] = []
    for stage in recipe.stages:
        engine = recipe.engine_of(stage)
        if engine == "llm":
            checks.append(partial(vllm.require, getattr(recipe, stage), stage))
            if stage == "tag" and recipe.tag.images:
                checks.append(partial(require, "PIL", "images", "tag.images: true"))
        elif engine == "ctranslate2":
            checks.append(partial(require, engine, engine, f"{stage}.engine {engine}"))
        elif engine == "simalign":
            checks.append(partial(require, engine, engine, "align.backend: simalign"))
        elif stage == "image":
            checks.append(partial(require, "PIL", "images", f"image.engine: {engine}"))
        elif engine in _LIGHT:
            checks.append(partial(_resolve_stage, recipe, stage))
    if _tells_languages(recipe):
        checks.append(partial(require, "py3langid", "lid", "translate.health.language"))
    if any(model == "builtin" for _, model in recipe.models()):
        checks.append(e5.weights_file)
    for check in checks:
        try:
            check()
        except MissingExtraError as error:
            if lacks is None:
                raise
            lacks(str(error))


def _tells_languages(recipe: Recipe) -> bool:
    """Return whether translations, made or given, are checked for their language."""
    checked = "translate" in recipe.stages or recipe.given_is_checked
    return checked and recipe.translate.health.language != "off"


def formats(recipe: Recipe) -> dict[str, str]:
    """Return the number formats that a recipe states, by key, but for float32."""
    found = {
        f"{stage}.dtype": getattr(recipe, stage).dtype for stage in recipe.stages if recipe.engine_of(stage) in _WAYS
    }
    return {key: dtype for key, dtype in found.items() if dtype not in ("auto", "float32")}


def formats_on_cpus(recipe: Recipe) -> list[str]:
    """Return the number formats of stages on CPUs, each as `key: format`."""
    found = formats(recipe).items()
    return [f"{key}: {dtype}" for key, dtype in found if kind_of_device(getattr(recipe, key.split(".")[0])) == "cpu"]


def asked(recipe: Recipe) -> dict[str, str]:
    """Return the models and settings that a recipe asks for, by key: what `resolve` may replace."""
    return dict(recipe.models()) | _settings(recipe)


def _settings(recipe: Recipe) -> dict[str, str]:
    """Return the settings that the start of a run decides, once: number formats, and a translator left open."""
    engine = {_ENGINE: "auto"} if recipe.translate_engine == "auto" else {}
    return formats(recipe) | engine


def with_engine(recipe: Recipe, *, offline: bool = False) -> Recipe:
    """Return the recipe with the engine that `translate.engine: auto` stands for.

    It is CTranslate2 where that is installed, reads the model (offline: any) and computes in the number format.
    """
    if recipe.translate_engine != "auto":
        return recipe
    section, engine = recipe.translate, "nllb"
    if find_spec("ctranslate2") is not None:
        ct2 = import_module(_TRANSLATORS["ctranslate2"])
        if ct2.computes_in(section) and (offline or ct2.reads(section.model)):
            engine = "ctranslate2"
    return recipe.with_models({_ENGINE: engine})


def recorded(recipe: Recipe, folder: RunFolder) -> dict[str, str]:
    """Return by key the pinned models of the run in a folder that a resume keeps (`hub.recorded`); none without a run.

    With them the settings that its start has decided, where the recipe asks for the same ones as then.
    Local folders keep their names, so that their content is looked at again.
    """
    if not folder.is_run():
        return {}
    record = folder.record()
    wanted = _settings(recipe)
    known = {key: str(record.keys[key]) for key in wanted if key in record.keys}
    return hub.recorded(dict(recipe.models()), folder.models(), record.asked) | {
        key: value for key, value in known.items() if record.asked.get(key, value) == wanted[key]
    }


def resolve(
    recipe: Recipe, *, recorded: Mapping[str, str] | None = None, say: Callable[[str], None] = lambda line: None
) -> tuple[Recipe, dict[str, str]]:
    """Return the recipe with models, layers and labels made definite, and the identity of each model by its key.

    recorded: models that are pinned already, and number formats that stand, by key; others that are for a CPU are
    timed. say: gets what a user should know, as `hub.pin` and `cpu_dtype.usable` say it. Errors as of `check_cheap` but
    for files, and RecipeError for a model, a layer or a language that cannot work. Reads configurations and tokenizers,
    no weights.
    """
    _check_settings(recipe)
    recipe = recipe.with_models(recorded or {})
    hub_ids = {model for key, model in recipe.models() if _from_hub(recipe, key, model)}
    pins = {model: hub.pin(model, say)[0] for model in sorted(hub_ids)}
    recipe = with_engine(recipe.with_models({key: pins[model] for key, model in recipe.models() if model in hub_ids}))
    identities: dict[str, str] = {}
    for stage in recipe.stages:
        if stage in _BACKENDS:
            section, found = _resolve_stage(recipe, stage)
            recipe = recipe.model_copy(update={stage: section})
            identities |= {f"{stage}.{key}": identity for key, identity in found.items()}
    if _tells_languages(recipe):
        identities["translate.health"] = f"py3langid {metadata.version('py3langid')}"
    return _timed(recipe, recorded or {}, say), identities


def _timed(recipe: Recipe, known: Mapping[str, str], say: Callable[[str], None]) -> Recipe:
    """Return the recipe with float32 in place of formats that are not faster on this machine's CPU."""
    taken: dict[str, str] = {}
    for key, dtype in formats(recipe).items():
        stage = key.split(".")[0]
        section = getattr(recipe, stage)
        if key not in known and kind_of_device(section) == "cpu":
            taken[key] = cpu_dtype.usable(key, dtype, _WAYS[recipe.engine_of(stage)], section.threads, say)
    return recipe.with_models(taken)


def ready(recipe: Recipe, say: Callable[[str], None]) -> None:
    """Fetch and convert models before workers want them, each once on this machine; errors as of `hub.ready`.

    recipe: as `resolve` returns it.
    """
    for model in dict.fromkeys(model for key, model in recipe.models() if _is_folder_of_ours(recipe, key, model)):
        hub.ready(model, say)


def _is_folder_of_ours(recipe: Recipe, key: str, model: str) -> bool:
    """Return True for a model that we load, from wherever; those of Python packages are none."""
    return recipe.engine_of(key.partition(".")[0]) != "spacy" and model != "builtin"


def _from_hub(recipe: Recipe, key: str, model: str) -> bool:
    """Return True for a model of the hub; one of a Python package is none."""
    return _is_folder_of_ours(recipe, key, model) and hub.is_hub_id(model)


def _resolve_stage(recipe: Recipe, stage: str) -> Resolved:
    """Ask the backend of a stage, whose import may take seconds."""
    backend = import_module(_BACKENDS[stage][recipe.engine_of(stage)])
    asked = [_directions(recipe, stage)] if stage in _TRANSLATING else []
    resolved: Resolved = backend.resolve(getattr(recipe, stage), stage, *asked)
    return resolved


def _directions(recipe: Recipe, stage: str) -> dict[str, tuple[str, str]]:
    """Return source and target of all that a stage translates, by the run's language."""
    if stage == "translate" and recipe.direction == "test":
        return {lang: (lang, recipe.source_lang) for lang in recipe.languages}
    given = recipe.input.parallel if stage == "translate" else ()
    return {lang: (recipe.source_side, lang) for lang in recipe.languages if lang not in given}


def check_contexts(recipe: Recipe, extra: Sequence[pa.Field]) -> None:
    """Raise RecipeError unless taggers find their contexts. extra: the user's columns (`Index.extra`)."""
    kinds = {field.name: field.type for field in extra}
    for key, name in recipe.contexts.items():
        if name not in kinds and "extra" in kinds and recipe.input.carry is None:
            raise RecipeError(
                f"{key}: of files with objects or a line a row, other columns come along as one text (extra); to read "
                f"{name!r}, name it, input.carry: [{name}]"
            )
        if name not in kinds:
            near = did_you_mean(name, kinds) if kinds else "; it carries none"
            raise RecipeError(f"{key}: the input carries no column {name!r}{near}")
        if not is_text(kinds[name]):
            raise RecipeError(f"{key}: column {name!r} has the type {kinds[name]}; allowed: text, as a caption")


def check_labels(recipe: Recipe, labels: Sequence[str]) -> None:
    """Raise RecipeError where a tagger or a picture could give none, or others, of the run's labels."""
    check_tags(recipe, labels)
    unknown = [label for label in recipe.image.prompts if label not in labels] if "image" in recipe.stages else []
    if unknown:
        raise RecipeError(
            f"image.prompts: {unknown[0]!r} is none of this run's labels ({', '.join(labels) or 'it has none'}), so no "
            "entity could have it; leave it out, or name it as the tagger and input.labels do"
        )


def check_tags(recipe: Recipe, labels: Sequence[str]) -> None:
    """Raise RecipeError if the target side's tagger has none of the run's labels, so that its score is 0 everywhere."""
    used = "tagger" in {*recipe.match.scores, *recipe.match.filters} and recipe.match.solver != "heuristic"
    used = used and recipe.projector == "match"
    known = set(recipe.target_tag.own_labels)
    if used and labels and not known & set(labels):
        raise RecipeError(
            f"target_tag.labels: the tagger's labels ({', '.join(sorted(known))}) are none of this run's "
            f"({', '.join(labels)}), so the score tagger would be 0 everywhere; map them under target_tag.labels, or "
            "take tagger_spans, which compares no labels"
        )


def model_lines(recipe: Recipe, identities: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return (key, name, identity) of all that `resolve` has identified."""
    names = {**dict(recipe.models()), "evidence.plugin": recipe.evidence.plugin, "translate.health": "language"}
    names["image.pillow"] = names["tag.pillow"] = "Pillow"
    names["align.encoder"] = f"{recipe.align.encoder}, hidden state {recipe.align.layer}"
    return [(key, names.get(key) or recipe.engine_of(key.partition(".")[0]), identities[key]) for key in identities]


def unweighted(recipe: Recipe) -> list[str]:
    """Return a line for each score of a plug-in without effect; it is computed and stored for a later `rematch`."""
    used = {*recipe.match.scores, *recipe.match.filters} if recipe.match.solver != "heuristic" else set()
    return [
        f"evidence.plugin: {name} is computed and stored, but decides nothing: no weight and no filter has it"
        for name in recipe.evidence.names
        if name not in used
    ]


def untrained(recipe: Recipe) -> list[str]:
    """Return a line for each tagger that is given contexts, and was not trained with any."""
    return [
        f"{key}: the built-in tagger has never seen a text beside the words, and may do worse with one than without; a "
        "student that `xner-ray train` makes with model.context has"
        for key in recipe.contexts
        if recipe.engine_of(key.partition(".")[0]) == "builtin"
    ]


def test_models(recipe: Recipe) -> list[str]:
    """Return a line for each model that is there for tests alone, whose output on a user's text is worth nothing."""
    models = {model for _, model in recipe.models()}
    found = []
    if TINY_NLLB in models:
        found.append(
            f"{TINY_NLLB} is a test model for template sentences, not a translator: of other text it makes nonsense; "
            "jobs/nllb.yaml has NLLB-200"
        )
    drawn = [name for name in (TINY_CLIP, TINY_OWL) if name in models]
    return [
        *found,
        *(f"{name} is a test model for drawings of jobs/tiny_clip, and knows no photograph" for name in drawn),
    ]


def notices(recipe: Recipe) -> list[str]:
    """Return what a user should know before spending hours: scores without effect, odd contexts, and licences."""
    found = unweighted(recipe) + untrained(recipe)
    models = [(key.partition(".")[0], model) for key, model in recipe.models()]
    chats = {model for stage, model in models if recipe.engine_of(stage) == "llm"}
    translators = {model for stage, model in models if stage in _TRANSLATING} - chats
    own = translators - {TINY_NLLB}
    if nllb := {model for model in own if "nllb" in model.lower()}:
        found.append("NLLB-200 weights are licensed CC BY-NC 4.0: no commercial use of the weights")
    return [*found, *test_models(recipe)] + [
        f"{model} has its own licence, which may bind what is made with it: see its card"
        for model in sorted(chats | own - nllb)
    ]
