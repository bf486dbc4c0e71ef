"""The recipe of a student: its data and filters, the network, the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from xner_ray.data.row import row_schema
from xner_ray.errors import Flag
from xner_ray.recipe.decides import Decides, Section
from xner_ray.recipe.input import Input, LanguageCode
from xner_ray.recipe.input import Labels as LabelMap
from xner_ray.recipe.sections import BUILTIN_TAGGER

Split = Literal["train", "validation", "test"]
_PROJECTED = {
    "incomplete",
    "min_score",
    "mask_below",
    "mask_tagged",
    "min_translation_score",
    "bad_translations",
    "flags",
}  # filters of these alone
FROZEN_BUILTIN, KEPT_BUILTIN = 7, 9  # of 12 layers: state 7 aligns languages best; two layers on it learn in minutes


class Filters(Section):
    """Filters of sentences and words. A sentence is counted under the first filter that drops it."""

    # Sentences that lost an entity. mask: their O words, some of which are wrong, teach nothing. words: those O words
    # teach nothing that the missing entity may stand on (`sentences.unknown_words`). None: as keep, but what the run
    # set aside (output.incomplete: split) is left out
    incomplete: Literal["keep", "drop", "mask", "words"] | None = None
    min_score: float | None = Field(default=None, ge=0, le=1)  # of the sentence's worst projected entity
    # Below this score of a projected entity its words are masked: nothing is learnt from them
    mask_below: float | None = Field(default=None, ge=0, le=1)
    # O words that the run's tagger of the target side (target_tags) holds for an entity with at least this probability
    # are masked: what is an adjective in English may be the name of a place in its translation
    mask_tagged: float | None = Field(default=None, gt=0, le=1)
    min_translation_score: float | None = Field(default=None, le=0)  # mean token log-probability
    flags: list[Flag] = Field(default_factory=list)  # rows with one of these are dropped
    # Sentences whose translation, given or made, repeats itself, is a copy, is in another script or of an odd length.
    # None: those that the run has flagged so are left out of data, unless labels are gold or tags of the original;
    # drop: all are looked at again, as the run may be old or its checks off
    bad_translations: Literal["keep", "drop"] | None = None
    words: tuple[int, int] | None = None  # least and most
    duplicates: Literal["keep", "drop"] = "keep"  # drop: the first of a source's equal sentences is kept
    language: bool = False  # drop sentences that py3langid finds in another language (extra lid)

    @property
    def masks(self) -> str | None:
        """The filter that masks words, as messages name it; None without one."""
        return (
            f"incomplete: {self.incomplete}"
            if self.incomplete in ("mask", "words")
            else next((name for name in ("mask_below", "mask_tagged") if getattr(self, name) is not None), None)
        )

    @field_validator("words")
    @classmethod
    def _range(cls, value: tuple[int, int] | None) -> tuple[int, int] | None:
        if value is not None and not 1 <= value[0] <= value[1]:
            raise ValueError("allowed: [least, most] with 1 <= least <= most")
        return value


class Teacher(Section):
    """A run over the same target words; its `target_tags` are averaged with those of the source."""

    run: Annotated[str, Decides.FILES]  # a run folder with target_tags
    weight: float = Field(default=1.0, gt=0)  # of its distributions


class Source(Section):
    """Sentences from one finished run, or from labelled files."""

    run: Annotated[str | None, Decides.FILES] = None  # a run folder
    langs: list[LanguageCode] | None = None  # of the run's; None: all
    side: Literal["target", "source"] = "target"  # source: the sentences that were projected from, each once
    # soft: the distributions of the run's tagger over the target words (target_tags).
    # None: projected in `data`, gold in `validation` and `evaluate`
    labels: Literal["projected", "gold", "soft"] | None = None
    teachers: list[Teacher] = Field(default_factory=list)  # for labels soft: further runs, averaged with this one
    teacher_weight: float = Field(default=1.0, gt=0)  # of this run among them
    splits: list[Split] = Field(default=["train"], min_length=1)  # of the run or of the files: those that are read
    input: Input | None = None  # labelled files, instead of run, langs, side and labels
    weight: float = Field(default=1.0, gt=0)  # of each sentence in the loss
    weight_by: Literal["none", "score"] = "none"  # score: times the mean score of its projected entities, at most 1
    filters: Filters = Filters()  # which sentences and words count

    @model_validator(mode="after")
    def _fits(self) -> Source:
        if (self.run is None) == (self.input is None):
            raise ValueError("give either run (a finished run's folder) or input (labelled files)")
        if self.input is not None:
            if self.input.parallel or self.input.links or self.input.split or self.input.sample:
                raise ValueError("input: parallel, links, split and sample are for projection; give path and limit")
            if isinstance(self.input.lang, list):
                raise ValueError("input.lang: one language; write an entry of its own for each")
            given = self.model_fields_set & {"langs", "side", "labels", "teachers", "weight_by"}
            if given:
                raise ValueError(f"{sorted(given)[0]}: is for runs; leave it out beside input")
        if self.input is not None or self.side == "source":
            unused = self.filters.model_fields_set & _PROJECTED
            if unused:
                raise ValueError(f"filters.{sorted(unused)[0]}: is about projected sentences; leave it out here")
        langs = self.langs or []
        if twice := [lang for lang in langs if langs.count(lang) > 1]:
            raise ValueError(f"langs: {twice[0]} is listed twice")
        if self.filters.masks and self.labels in ("gold", "soft"):
            raise ValueError(f"filters.{self.filters.masks}: is for projected labels, not for labels: {self.labels}")
        if self.teachers and self.labels != "soft":
            raise ValueError("teachers: need labels: soft")
        if self.side == "source" and self.labels is not None:
            raise ValueError("labels: the source side has one kind; leave labels out")
        if self.side == "source" and self.weight_by != "none":
            raise ValueError("weight_by: the source side has no projected entities; leave weight_by out")
        return self

    def labels_read(self, *, learnt: bool) -> Literal["projected", "gold", "soft"]:
        """Return which labels of the target side are read: unless stated, to learn the projected ones, else gold."""
        return self.labels or ("projected" if learnt else "gold")

    @property
    def name(self) -> str:
        """The name of the source in reports."""
        if self.input is not None:
            path = self.input.path if isinstance(self.input.path, str) else next(iter(self.input.path.values()))
            return f"{path} ({self.input.lang})"
        what = "source side" if self.side == "source" else self.labels or "target side"
        return f"{self.run} ({what}{': ' + ', '.join(self.langs) if self.langs else ''})"


class Folds(Section):
    """Cross-validation: training leaves out the documents of some folds, and evaluation reads only these."""

    n: int = Field(ge=2)  # folds
    # the fold that is left out, from 0, or a list of such
    held_out: Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] = 0
    seed: int = 0  # of the draw

    @model_validator(mode="after")
    def _fits(self) -> Folds:
        if max(self.left_out, default=self.n) >= self.n or len(self.left_out) == self.n:
            raise ValueError(f"held_out is {self.held_out}; allowed: 0 to {self.n - 1}, or a list of some of these")
        return self

    @property
    def left_out(self) -> set[int]:
        """The folds that are left out."""
        return {*self.held_out} if isinstance(self.held_out, list) else {self.held_out}


class Model(Section):
    # hub id (name@revision), folder, builtin, or builtin-tagger; a classifier of these labels keeps its head
    encoder: Annotated[str, Decides.MODEL] = "builtin"
    layers: Annotated[int, Field(ge=1)] | None = None  # lowest layers that are kept; None: all, for builtin 9
    frozen: Annotated[int, Field(ge=0)] | None = None  # lowest that do not learn; None: 0, of builtin and its tagger 7
    # A column of the data whose text is read beside the words, as a picture's caption; None: the words alone
    context: Annotated[str, Field(min_length=1)] | None = None
    dropout: float = Field(default=0.1, ge=0, lt=1)  # before the head
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"  # of the weights in the model's folder

    @model_validator(mode="after")
    def _fits(self) -> Model:
        if self.n_layers is not None and self.n_frozen > self.n_layers:
            raise ValueError(f"frozen is {self.n_frozen}, but only {self.n_layers} layers are kept")
        if self.context in row_schema(images=True).names:
            raise ValueError(f"context: {self.context!r} is a column of every run; allowed: one that your files have")
        return self

    @property
    def n_layers(self) -> int | None:
        return KEPT_BUILTIN if self.layers is None and self.encoder == "builtin" else self.layers

    @property
    def n_frozen(self) -> int:
        """How many of the lowest layers do not learn; the embeddings below them do not learn either. 0: all learn."""
        if self.frozen is None:
            ours = self.encoder in ("builtin", BUILTIN_TAGGER)
            return min(FROZEN_BUILTIN, self.layers or FROZEN_BUILTIN) if ours else 0
        return self.frozen


class Fit(Section):
    epochs: int = Field(default=8, ge=1)  # passes over the data
    batch_sentences: int = Field(default=16, ge=1)  # of one step, over all workers
    # Sentences held and shuffled at once, over all workers; runs with more rows are streamed (docs/students.md)
    shuffle_sentences: int = Field(default=65_536, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)  # None: 5e-4 over frozen layers, else 2e-5
    head_learning_rate: float | None = Field(default=None, gt=0)  # None: 2e-3 over frozen layers, else 1e-4
    weight_decay: float = Field(default=0.01, ge=0)  # of AdamW
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of the steps in which the rate rises before it falls to 0
    clip_norm: float = Field(default=1.0, gt=0)  # longest gradient
    checkpoints_per_epoch: int = Field(default=1, ge=1)  # from which a training resumes
    patience: int | None = Field(default=None, ge=1)  # checkpoints without a better F1 before it stops; None: never
    micro_batch_tokens: int = Field(default=4096, ge=16)  # padded tokens of one pass
    # auto: bfloat16 products on a GPU; bfloat16 on a CPU: only where a layer in it is faster there
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    cache_gb: float = Field(default=1.0, ge=0)  # memory for the states of frozen layers, of one worker
    # The local disk for those that find no room there, at most half of what is free; the rest is computed again
    cache_disk_gb: float = Field(default=16.0, ge=0)
    seed: int = Field(default=0, ge=0)  # of order, dropout and the head

    @model_validator(mode="after")
    def _pools_hold_steps(self) -> Fit:
        # A pool may have half of these sentences, and one that is smaller than a step would be left out of its epoch
        if self.shuffle_sentences < 2 * self.batch_sentences:
            raise ValueError(
                f"shuffle_sentences: {self.shuffle_sentences} is less than two steps of {self.batch_sentences} "
                "sentences (batch_sentences), so that a step might find none"
            )
        return self


class Resources(Section):
    address: str = "local"  # of Ray, as engine.address
    workers: int = Field(default=1, ge=1)  # processes of Ray Train
    gpus: float = Field(default=0.0, ge=0)  # of one worker
    cpus: float = Field(default=1.0, gt=0)  # of each worker
    threads: int | None = Field(default=None, ge=1)  # of torch in one worker; None: one per CPU


class Labels(LabelMap):
    mask: list[str] = Field(default_factory=list)  # by their new names: their words teach nothing, not even O

    @model_validator(mode="after")
    def _masked(self) -> Labels:
        if self.names is not None:
            raise ValueError("names: labelled files have names of their own; give them under data[].input.labels")
        if both := [label for label in self.mask if label in (self.keep or ())]:
            raise ValueError(f"mask: {both[0]} is one of keep; leave it out of one of them")
        return self

    def learns(self, label: str) -> bool:
        """Return whether a label, by its new name, is learnt; gold and predictions of others are not scored."""
        return label not in self.mask and (self.keep is None or label in self.keep)


class Training(Section):
    """A student's recipe."""

    data: Annotated[list[Source], Field(min_length=1)]  # what is learnt
    validation: list[Source] = Field(default_factory=list)  # what decides when to stop
    validation_share: float = Field(default=0.0, ge=0, lt=1)  # share of the documents of data, instead of validation
    evaluate: list[Source] = Field(default_factory=list)  # with gold; scored once, at the end
    labels: Labels = Labels()  # which labels are learnt
    folds: Folds | None = None  # train without a part of the documents
    model: Model = Model()  # the network
    fit: Fit = Fit()  # the training
    resources: Resources = Resources()  # where

    @model_validator(mode="after")
    def _fits(self) -> Training:
        if self.validation and self.validation_share:
            raise ValueError("validation and validation_share exclude each other; give one")
        if self.fit.patience is not None and not self.validation and not self.validation_share:
            raise ValueError("fit.patience: stopping early needs validation, or validation_share")
        for key in ("validation", "evaluate"):
            for source in getattr(self, key):
                if source.input is None and source.labels == "soft":
                    raise ValueError(f"{key}: scores need spans; allowed labels: projected, gold")
                if source.filters.masks:
                    raise ValueError(f"{key}: filters.{source.filters.masks}: is for learning; leave it out here")
        if self.validation_share and any(source.labels == "soft" for source in self.data):
            raise ValueError("validation_share: scores need spans, and labels: soft has none; give validation")
        return self

    def with_dtype(self, dtype: Literal["auto", "float32", "bfloat16"]) -> Training:
        """Return the recipe with another number format."""
        return self.model_copy(update={"fit": self.fit.model_copy(update={"dtype": dtype})})

    def with_encoder(self, encoder: str) -> Training:
        """Return the recipe with another encoder."""
        return self.model_copy(update={"model": self.model.model_copy(update={"encoder": encoder})})
