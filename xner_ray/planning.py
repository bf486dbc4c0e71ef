"""What a recipe will do, before anything is loaded: models pinned, stages grouped into actors, workers sized.

Neighbouring stages with equal runtime settings share one actor: each loads its models, a unit passes through all of
them without leaving the process, and three stages that want the only GPU do not wait for one another. Different
settings make another pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata

import pyarrow as pa

from xner_ray import plugin
from xner_ray.errors import RecipeError
from xner_ray.recipe import Recipe
from xner_ray.schema import row_schema
from xner_ray.sections import BUILTIN_TAGGER, BUILTIN_TAGGER_LABELS, TINY_NLLB, Runtime, Tag
from xner_ray.spans import Span
from xner_ray.stages import stage_names

# Logical CPUs of a read task. Reads and workers ask for a little less than the machine has, or reads would starve.
READ_CPUS = 0.05
_ONE_CPU = 0.95
_MOST_READERS = 64  # half a million rows a second
_MOST_WORKERS = 1000  # of a pool that grows with an autoscaled cluster
_RESOURCES = ("CPU", "GPU", "memory")
_OF_TRANSLATORS = ("translate", "back_translate", "likelihood")


@dataclass(frozen=True)
class Group:
    """Stages that share an actor, and the pool of those actors. `cpus`, `gpus`, `memory_gb` are one worker's."""

    stages: tuple[str, ...]
    workers: tuple[int, int]
    cpus: float
    gpus: float
    threads: int
    memory_gb: float | None


@dataclass(frozen=True)
class Capacity:
    """What Ray has, and its largest node.

    `autoscaled`: an autoscaler may start more nodes. Nothing tells how many and of what size, so what such a cluster
    can never give is not refused here, but by the autoscaler's own answer when the run starts (`engine.reserve`).
    """

    cpus: float
    gpus: float
    local: bool
    memory_gb: float = float("inf")
    node: tuple[float, float, float] | None = None  # cpus, gpus, memory_gb
    autoscaled: bool = False

    def holds(self, groups: Sequence[Group]) -> bool:
        """Whether the nodes that are there now have room for the pools' minima, by their sums and one by one."""
        wanted = bundles(groups)
        most = dict(zip(_RESOURCES, (self.cpus, self.gpus, self.memory_gb * 1e9), strict=True))
        one = (
            dict(zip(_RESOURCES, (self.node[0], self.node[1], self.node[2] * 1e9), strict=True)) if self.node else most
        )
        return all(
            sum(bundle.get(key, 0) for bundle in wanted) <= most[key] + 1e-6
            and all(bundle.get(key, 0) <= one[key] + 1e-6 for bundle in wanted)
            for key in _RESOURCES
        )


def resolve(recipe: Recipe) -> tuple[Recipe, dict[str, str]]:
    """The recipe with model revisions pinned, and each model's identity.

    RecipeError for a model, layer or language code that cannot work. Reads configurations and tokenizers, no weights.
    """
    # torch and transformers take seconds, and most commands need none of this
    from xner_ray import builtin_encoder, hub, llm
    from xner_ray.encode import BUILTIN, Encoder
    from xner_ray.tag import hf, spacy
    from xner_ray.tag import llm as llm_tagger
    from xner_ray.translate import apertium, ct2, nllb
    from xner_ray.translate import llm as llm_translator
    from xner_ray.translate.examining import Examiner

    if recipe.projector == "combine":
        raise RecipeError("projector: combine is made of finished runs by the command `xner-ray combine`")
    names = stage_names(recipe)
    if "likelihood" in names and "likelihood" not in recipe.match.scores:
        raise RecipeError("likelihood.engine: its score has no weight; add likelihood to match.scores")
    for name in recipe.chats:
        llm.require(getattr(recipe, name), name)
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
        if engine == "ctranslate2":
            ct2.require(name)
        model, identities[f"{name}.model"] = hub.pin(section.model)
        section = section.model_copy(update={"model": model})
        if engine == "llm":
            llm.check(section, name)
            identities[f"{name}.engine"] = llm.identity(llm_translator.PROMPT)
        elif engine == "ctranslate2":
            ct2.check(section, languages, name)
            identities[f"{name}.engine"] = f"ctranslate2 {metadata.version('ctranslate2')}"
        else:
            nllb.check(section, languages, name)
        recipe = recipe.model_copy(update={name: section})
    if "translate" in names:
        Examiner(recipe.translate.health)
        if recipe.translate.health.language != "off":
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
            llm.check(section, name)
            identities[f"{name}.engine"] = llm.identity(llm_tagger.PROMPT)
        recipe = recipe.model_copy(update={name: section})
    if "evidence" in names:
        section, identities["evidence.plugin"] = plugin.read(recipe.evidence)
        recipe = recipe.model_copy(update={"evidence": section})
    if "align" not in names:
        return recipe, identities
    if recipe.align.encoder == BUILTIN:
        identities["align.encoder"] = builtin_encoder.SHA256
    else:
        encoder, identities["align.encoder"] = hub.pin(recipe.align.encoder)
        recipe = recipe.model_copy(update={"align": recipe.align.model_copy(update={"encoder": encoder})})
    layers = Encoder.check(recipe.align.encoder, recipe.align.layer)
    layer = layers[0] if len(layers) == 1 else layers
    return recipe.model_copy(update={"align": recipe.align.model_copy(update={"layer": layer})}), identities


def run_labels(recipe: Recipe, found: Sequence[str]) -> list[str]:
    """Labels of the output, in the order of their ClassLabel pairs: `keep` as written, else all, sorted."""
    if recipe.input.labels.keep is not None:
        return list(recipe.input.labels.keep)
    sections = [recipe.tag, *([recipe.target_tag] if recipe.projector == "transfer" else [])]
    tagged = [Span(0, 1, label) for section in sections for label in _labels_of(section)]
    return sorted({*found, *(span.label for span in recipe.input.labels.map(tagged))})


def _labels_of(section: Tag) -> list[str]:
    """Labels that a tagger of a resolved recipe can give."""
    if section.engine == "spacy":
        return list(BUILTIN_TAGGER_LABELS)
    if section.engine == "llm":
        return list(section.labels)
    return [label for label in section.labels.values() if label is not None] if section.engine == "hf" else []


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


def group(recipe: Recipe, capacity: Capacity, n_units: int) -> list[Group]:
    """Actor pools for the recipe's stages.

    RecipeError if their minima exceed what Ray has, where no autoscaler may give more.
    """
    groups: list[tuple[list[str], Runtime]] = []
    for name in stage_names(recipe):
        section = getattr(recipe, name)
        runtime = Runtime(**{key: getattr(section, key) for key in Runtime.model_fields})
        if groups and groups[-1][1] == runtime:
            groups[-1][0].append(name)
        else:
            groups.append(([name], runtime))
    if not capacity.autoscaled:
        _refuse_gpus(groups, capacity)
        _refuse_memory(groups, capacity)
    share = _cpu_share(groups, capacity)
    sized = [_size(tuple(names), runtime, capacity, share, n_units) for names, runtime in groups]
    needed = sum(g.workers[0] * g.cpus for g in sized) + READ_CPUS
    if needed > capacity.cpus + 1e-6 and not capacity.autoscaled:
        raise RecipeError(
            f"the recipe's stages need at least {needed:.2f} CPUs ({_list(sized, 'cpus')}, reading {READ_CPUS}), but "
            f"Ray has {capacity.cpus:g}; lower workers or cpus of a stage, or use a larger cluster (engine.address)"
        )
    return sized


def _refuse_gpus(groups: Sequence[tuple[list[str], Runtime]], capacity: Capacity) -> None:
    needed = sum(_minimum(runtime) * runtime.gpus for _, runtime in groups)
    if needed > capacity.gpus + 1e-6:
        wanting = [f"{'+'.join(n)}: {_minimum(r)} x {r.gpus:g}" for n, r in groups if r.gpus]
        raise RecipeError(
            f"the recipe's stages need at least {needed:g} GPUs ({', '.join(wanting)}), but Ray has {capacity.gpus:g}; "
            "set gpus: 0, a fraction, or fewer workers; neighbouring stages with equal settings share an actor"
        )


def _refuse_memory(groups: Sequence[tuple[list[str], Runtime]], capacity: Capacity) -> None:
    needed = sum(_minimum(runtime) * (runtime.memory_gb or 0) for _, runtime in groups)
    if needed > capacity.memory_gb:
        raise RecipeError(
            f"memory_gb: the recipe's stages need at least {needed:g} GB, but Ray has {capacity.memory_gb:.1f}; "
            "lower memory_gb or workers of a stage"
        )
    for names, runtime in groups:
        asked = (runtime.cpus or 0, runtime.gpus, runtime.memory_gb or 0)
        for what, one, most in zip(("cpus", "gpus", "memory_gb"), asked, capacity.node or asked, strict=True):
            if one > most + 1e-6:
                raise RecipeError(
                    f"{names[0]}.{what} is {one:g} for one worker, but the largest node of the cluster has {most:g}"
                )


def _cpu_share(groups: Sequence[tuple[list[str], Runtime]], capacity: Capacity) -> float:
    """CPUs that each pool without a stated size may take, once the stated ones have theirs."""
    stated = sum(_minimum(r) * (r.cpus or _ONE_CPU * r.threads) for _, r in groups if r.workers is not None)
    open_pools = sum(r.workers is None for _, r in groups)
    return max(0.0, capacity.cpus - READ_CPUS - stated) / max(1, open_pools)


def _size(names: tuple[str, ...], runtime: Runtime, capacity: Capacity, share: float, n_units: int) -> Group:
    shares = runtime.workers is None and not capacity.autoscaled and share > 0.1
    cpus = runtime.cpus or min(_ONE_CPU * runtime.threads, share if shares else 1e9)
    if runtime.workers is not None:
        low = _minimum(runtime)
        high = runtime.workers[1] if isinstance(runtime.workers, tuple) else runtime.workers
    elif capacity.autoscaled:
        low, high = 1, max(1, min(_MOST_WORKERS, n_units))  # the autoscaler's maxima are the bound
    else:
        high = int(capacity.gpus / runtime.gpus + 1e-6) if runtime.gpus else int(share / cpus + 1e-6)
        high = max(1, min(high, n_units))
        low = high if capacity.local else 1
    return Group(names, (low, high), round(cpus, 3), runtime.gpus, runtime.threads, runtime.memory_gb)


def _minimum(runtime: Runtime) -> int:
    return runtime.workers[0] if isinstance(runtime.workers, tuple) else runtime.workers or 1


def _list(groups: Sequence[Group], key: str) -> str:
    return ", ".join(f"{'+'.join(g.stages)} {g.workers[0]} x {getattr(g, key):g}" for g in groups)


def readers(groups: Sequence[Group]) -> int:
    """How many read tasks may run at a time.

    Reading a row takes less than half the time of the cheapest first stage (matching of given links). Without a bound,
    READ_CPUS would let twenty processes start for every CPU that no stage asks for.
    """
    return min(_MOST_READERS, max(2, (groups[0].workers[1] + 1) // 2))


def bundles(groups: Sequence[Group]) -> list[dict[str, float]]:
    """Ray's resources for the least number of workers, one dict a worker, and one for reading."""
    wanted = [
        {"CPU": g.cpus, "GPU": g.gpus, "memory": (g.memory_gb or 0) * 1e9} for g in groups for _ in range(g.workers[0])
    ]
    return [{key: value for key, value in bundle.items() if value} for bundle in [*wanted, {"CPU": READ_CPUS}]]


def needs(groups: Sequence[Group]) -> str:
    """The same in words."""
    kinds = (("cpus", "CPUs"), ("gpus", "GPUs"), ("memory_gb", "GB of memory"))
    asked = [(field, unit) for field, unit in kinds if any(getattr(g, field) for g in groups)]
    return (
        ", ".join(f"{sum(g.workers[0] * (getattr(g, field) or 0) for g in groups):g} {unit}" for field, unit in asked)
        + " ("
        + ", ".join(f"{'+'.join(g.stages)}: {g.workers[0]} workers" for g in groups)
        + ")"
    )


def shrink(groups: Sequence[Group], n_units: int) -> list[Group]:
    """The same pools for fewer units: no more workers than units."""
    return [
        replace(g, workers=(max(1, min(g.workers[0], n_units)), max(1, min(g.workers[1], n_units)))) for g in groups
    ]


def columns(extra: Sequence[pa.Field]) -> list[str]:
    """Columns of the output; the user's own come last."""
    return list(row_schema(extra).names)


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
    sections = {name: getattr(recipe, name) for name in stage_names(recipe) if name in _OF_TRANSLATORS}
    models = {section.model for section in sections.values() if section.engine not in ("apertium", "llm")}
    if models - {TINY_NLLB}:
        found.append("NLLB-200 weights are licensed CC BY-NC 4.0: no commercial use of the weights")
    if TINY_NLLB in models:
        found.append("tiny-nllb is a test model for template sentences, not a translator")
    chats = sorted({str(getattr(recipe, name).model) for name in recipe.chats})
    found += [f"{model} has its own licence, which may bind what is made with it: see its card" for model in chats]
    return found
