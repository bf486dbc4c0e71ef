"""The recipe of an adaptation: its pairs, the encoder, the links that it learns, the training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from xner_ray.align.linking import AlignOptions
from xner_ray.recipe.decides import Decides, Section
from xner_ray.recipe.input import Input, LanguageCode


class Pairs(Section):
    """Sentence pairs from a finished run, or from files and parallel files. Labels do not matter."""

    run: Annotated[str | None, Decides.FILES] = None  # a run folder
    langs: list[LanguageCode] | None = None  # of the run's; None: all
    limit: Annotated[int, Field(ge=1)] | None = None  # first pairs of each language; for files input.limit
    input: Input | None = None  # with input.parallel

    @model_validator(mode="after")
    def _fits(self) -> Pairs:
        if (self.run is None) == (self.input is None):
            raise ValueError("give either run (a finished run's folder) or input (files, with input.parallel)")
        if self.input is None:
            return self
        if self.langs is not None:
            raise ValueError("langs: is for runs; beside input the languages are those of input.parallel")
        if self.limit is not None:
            raise ValueError("limit: is for runs; beside input give input.limit")
        if not self.input.parallel:
            raise ValueError("input.parallel: is missing; an encoder learns from pairs, as in {spa_Latn: FILE}")
        if isinstance(self.input.lang, list):
            raise ValueError("input.lang: one language; write an entry of its own for each")
        for key in ("links", "split", "sample", "carry", "labels"):
            if key in self.input.model_fields_set:
                raise ValueError(f"input.{key}: is for projection; leave it out")
        return self

    @property
    def name(self) -> str:
        """The name of the pairs in reports."""
        if self.input is None:
            return f"{self.run}{' (' + ', '.join(self.langs) + ')' if self.langs else ''}"
        path = self.input.path if isinstance(self.input.path, str) else next(iter(self.input.path.values()))
        return f"{path} ({self.input.lang} with {', '.join(self.input.parallel)})"


class Model(Section):
    encoder: Annotated[str, Decides.MODEL] = "builtin"  # builtin, hub id (name@revision), or folder
    layer: int | list[int] | Literal["auto"] = (
        "auto"  # that alignment reads, as align.layer; the layers above do not change
    )
    frozen: Annotated[int, Field(ge=0)] = 0  # lowest layers that do not learn; the embeddings never do


class Objective(Section):
    """The links that the encoder learns: its own, found before each part (see `loop.loss`)."""

    method: Literal["softmax", "argmax", "itermax"] = "softmax"  # the links of this method count as right
    center: Literal["pair", "none"] = "pair"  # these four as in align; train with the settings of the later alignment
    similarity: Literal["cosine", "dot"] = "cosine"  # of two vectors
    temperature: float | None = Field(default=None, ge=1e-3, le=10)  # of the softmax
    threshold: float | None = Field(default=None, ge=0, le=1)  # for method softmax

    @model_validator(mode="after")
    def _fits(self) -> Objective:
        if self.threshold is not None and self.method != "softmax":
            raise ValueError(f"threshold: is for method softmax; leave it out beside {self.method}")
        return self

    @property
    def options(self) -> AlignOptions:
        return AlignOptions(
            center=self.center, similarity=self.similarity, temperature=self.temperature, threshold=self.threshold
        )


class Fit(Section):
    epochs: int = Field(default=1, ge=1)  # passes over the pairs
    batch_pairs: int = Field(default=8, ge=1)  # of one step
    learning_rate: float = Field(default=2e-5, gt=0)  # of AdamW
    weight_decay: float = Field(default=0.0, ge=0)  # of AdamW
    warmup: float = Field(default=0.1, ge=0, lt=1)  # share of the steps in which the rate rises before it falls to 0
    clip_norm: float = Field(default=1.0, gt=0)  # longest gradient
    part_pairs: int = Field(default=2048, ge=1)  # after so many, links are found again, and a checkpoint is written
    micro_batch_tokens: int = Field(default=4096, ge=16)  # padded tokens of one pass
    # auto: bfloat16 products on a GPU; bfloat16 on a CPU: only where a layer in it is faster there
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = Field(default=0, ge=0)  # of order and dropout


class Resources(Section):
    """Resources of the one process that adapts."""

    gpus: Literal[0, 1] = 0  # 0: on a CPU
    threads: int | None = Field(default=None, ge=1)  # of torch; None: torch's own choice


class Adaptation(Section):
    """An adaptation's recipe."""

    data: Annotated[list[Pairs], Field(min_length=1)]  # sentence pairs
    model: Model = Model()  # the encoder
    objective: Objective = Objective()  # what is learnt
    fit: Fit = Fit()  # the training
    resources: Resources = Resources()  # where
