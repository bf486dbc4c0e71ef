"""The recipe: all that a run does, as one YAML file that is checked before anything is loaded.

Sizes carry their unit in the name. Unknown keys, wrong types and unknown values are errors.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from xner_ray.data.spans import Span
from xner_ray.errors import did_you_mean
from xner_ray.recipe.decides import Decides, Section, decisions
from xner_ray.recipe.images import Image, check_use
from xner_ray.recipe.input import Input, LanguageCode
from xner_ray.recipe.sections import (
    BUILTIN_LABELS,
    SCORES,
    SPACY_MODEL,
    Align,
    BackTranslate,
    Constrained,
    Evidence,
    Likelihood,
    Match,
    ModelRuntime,
    Tag,
    TargetTag,
    Translate,
)

UNIT_ROWS, GPU_UNIT_ROWS = 2048, 16_384
_OWN_MODELS = {"builtin": "builtin", "spacy": SPACY_MODEL}  # of taggers


class Output(Section):
    incomplete: Annotated[Literal["keep", "reject", "split"], Decides.CHOICE] = "keep"  # sentences that lost an entity
    # an entity that scores less makes its sentence incomplete, as one without a place does
    doubtful: Annotated[float, Decides.CHOICE] = Field(default=0.0, ge=0, le=1)
    # above it no run begins, and one that is done ends with status 3; incomplete: reject counts, too
    max_reject_rate: Annotated[float, Decides.RUN] = Field(default=0.01, ge=0, le=1)
    rows_per_file: Annotated[int, Decides.CHOICE] = Field(default=100_000, ge=1)  # of the data set


class Engine(Section):
    # inline: in this process; auto: whichever is done first
    executor: Annotated[Literal["auto", "inline", "ray"], Decides.RUN] = "auto"
    # local | auto | ADDRESS:PORT; RAY_ADDRESS, which `ray job submit` sets, comes first
    address: Annotated[str, Decides.RUN] = "local"
    # None: 2,048; 16,384 where a stage asks for a GPU. What a run begins with, it keeps
    unit_rows: Annotated[int | None, Decides.RUN] = Field(default=None, ge=1)
    # for the whole cluster, in any currency
    price_per_hour: Annotated[float | None, Decides.RUN] = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _one_place(self) -> Engine:
        if self.executor == "inline" and self.address != "local":
            raise ValueError(f"address: {self.address} is a cluster, but executor: inline stays in this process")
        return self


class Combined(Section):
    """Runs that the command `combine` has joined. models: their lines in the dataset card's licences."""

    runs: Annotated[list[str], Decides.ROWS] = Field(min_length=2)
    weights: Annotated[list[Annotated[float, Field(gt=0)]], Decides.ROWS]
    method: Annotated[Literal["union", "vote"], Decides.ROWS] = "union"
    models: Annotated[list[str], Decides.ROWS] = Field(default_factory=list)


class Recipe(Section):
    direction: Annotated[Literal["train", "test"], Decides.ROWS] = "train"  # test: labels of a translation come back
    # match: align, then match; marker: entities in brackets through the translator; constrained: brackets where a
    # translator would put them in a translation that stays; transfer: target_tag's own entities
    projector: Annotated[Literal["match", "marker", "constrained", "transfer", "combine"], Decides.ROWS] = "match"
    # for projector combine; the command `combine` writes it
    combined: Annotated[Combined | None, Decides.ROWS] = None
    input: Input
    # direction test: the language that the tagger reads
    source_lang: Annotated[LanguageCode, Decides.ROWS] = "eng_Latn"
    targets: Annotated[list[LanguageCode], Decides.RUN] = Field(default_factory=list)  # of direction train
    translate: Translate = Translate()
    tag: Tag = Tag()
    image: Image = Image()
    back_translate: BackTranslate = BackTranslate()
    target_tag: TargetTag = TargetTag()
    align: Align = Align()
    evidence: Evidence = Evidence()
    constrained: Constrained = Constrained()
    likelihood: Likelihood = Likelihood()
    match: Match = Match()
    output: Output = Output()
    engine: Engine = Engine()

    @model_validator(mode="after")
    def _opinions(self) -> Recipe:
        """Put in place of target_tag's `auto` the engine that it stands for.

        It runs where `align` runs, or `tag`, and has the input's new names of its labels.
        """
        section = self.target_tag
        if section.engine == "auto":
            encoder = self.aligned and self.align.backend == "batched" and self.align.encoder == "builtin"
            wanted = self.projector == "match" and (encoder or self.tag.engine == "builtin")
            beside = self.align if self.aligned else self.tag
            update: dict[str, Any] = {key: getattr(beside, key) for key in ModelRuntime.model_fields}
            new = self.input.labels.rename
            update["labels"] = {label: new[label] for label in BUILTIN_LABELS if wanted and label in new}
            update |= {key: getattr(section, key) for key in section.model_fields_set}
            update["engine"] = "builtin" if wanted else "none"
            object.__setattr__(self, "target_tag", section.model_copy(update=update))
        return self

    @model_validator(mode="after")
    def _directions(self) -> Recipe:
        if self.direction == "train":
            if isinstance(self.input.lang, list):
                raise ValueError("input.lang: a list of languages is for direction test; direction train has one")
            if not self.targets:
                raise ValueError("targets: direction train needs at least one language code, as in targets: [swh_Latn]")
            if self.input.lang in self.targets:
                raise ValueError(f"targets: {self.input.lang} is the language of the input itself")
            if unused := sorted(set(self.input.parallel) - set(self.targets)):
                raise ValueError(f"input.parallel: {unused[0]} is not among targets ({', '.join(self.targets)})")
            if self.tag.engine == "provided":
                raise ValueError(
                    "tag.engine: provided is for direction test; in direction train the labels are the input's own "
                    "(tag.engine: none)"
                )
        else:
            if self.targets:
                raise ValueError("targets: in direction test the input is the target side; leave targets out")
            if self.tag.engine == "none" and self.projector not in ("transfer", "combine"):
                raise ValueError("tag.engine: direction test needs one: builtin, spacy, hf, llm or provided")
            if wrong := sorted(set(self.input.parallel) - {self.source_lang}):
                raise ValueError(f"input.parallel: {wrong[0]} is not source_lang ({self.source_lang})")
            if self.source_lang in self.languages and self.projector != "transfer":  # which has no source side
                raise ValueError(f"source_lang: {self.source_lang} is the language of the input itself")
            if len(self.languages) > 1:
                paths = {"": self.input.path} if isinstance(self.input.path, str) else self.input.path
                for path in [*paths.values(), *self.input.parallel.values()]:
                    if "{lang}" not in path:
                        raise ValueError(f"input: {path!r} needs {{lang}}, since input.lang is a list")
        if twice := [lang for lang, count in Counter(self.languages).items() if count > 1]:
            raise ValueError(f"{'targets' if self.targets else 'input.lang'}: {twice[0]} is listed twice")
        if self.translate.engine == "provided" and self.without_text:
            raise ValueError(f"translate.engine: provided, but input.parallel has no text for {self.without_text[0]}")
        if self.tag.engine == "provided" and self.without_text:
            raise ValueError(
                f"tag.engine: provided, but input.parallel has no text for {self.without_text[0]}; its labels are the "
                "entities"
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
        if self.without_text:
            raise ValueError(
                f"align.backend: provided, but input.parallel has no text for {self.without_text[0]}; links count the "
                "words of given text on both sides"
            )
        if self.back_translate.engine != "none":
            raise ValueError(
                "back_translate.engine: input.links cannot count the words of a back-translation; leave "
                "back_translate out, or set align.backend: batched"
            )
        return self

    @model_validator(mode="after")
    def _evidence(self) -> Recipe:
        known = [*SCORES, *self.evidence.names]
        for key in ("scores", "thresholds", "filters"):
            if unknown := sorted(set(getattr(self.match, key)) - set(known)):
                own = "" if self.evidence.plugin else "; a function of your own is named under evidence.plugin"
                raise ValueError(f"match.{key}.{unknown[0]}: no such score{did_you_mean(unknown[0], known)}{own}")
        if self.match.needs_tags and self.target_tag.engine == "none":
            raise ValueError(f"{self.match.needs_tags} needs target_tag.engine; allowed: builtin, hf, spacy, llm")
        if "likelihood" in self.match.scores and self.likelihood.engine == "none":
            raise ValueError("match.scores: likelihood needs likelihood.engine, which is none; allowed: nllb")
        if "likelihood" in self.match.scores and self.match.two_passes:
            raise ValueError("match.prior: likelihood is computed for the cells of one matching; set match.prior: none")
        return self

    @model_validator(mode="after")
    def _projectors(self) -> Recipe:
        if (self.projector == "combine") != (self.combined is not None):
            raise ValueError("projector: combine and combined belong together; the command `combine` writes them")
        if self.projector == "marker" and self.direction == "test":
            raise ValueError("projector: marker makes its own target text, so it is only for direction train")
        if self.projector == "marker" and self.translate.engine == "llm":
            raise ValueError("translate.engine: the prompt of engine llm does not mention markers; use another engine")
        if self.projector == "marker" and self.input.parallel:
            raise ValueError("projector: marker translates every sentence itself; leave input.parallel out")
        if self.projector == "transfer" and self.target_tag.engine == "none":
            raise ValueError("projector: transfer needs target_tag.engine; allowed: builtin, hf, spacy, llm")
        alone = self.projector == "transfer" and self.direction == "test"
        if alone and (self.input.parallel or self.tag.engine != "none"):
            raise ValueError("projector: transfer reads only the input in direction test; leave parallel and tag out")
        if self.projector == "constrained" and self.match.solver == "heuristic":
            raise ValueError("match.solver: heuristic reads links, which projector constrained has none of; use exact")
        if self.projector in ("marker", "constrained", "transfer"):
            unused = [
                "back_translate",
                "likelihood",
                "evidence",
                *(["target_tag"] if self.projector != "transfer" else []),
            ]
            for name in [name for name in unused if name in self.stages]:
                key = "plugin" if name == "evidence" else "engine"
                raise ValueError(f"{name}.{key}: only projector match uses it")
            if self.align.backend == "provided":
                raise ValueError("align.backend: only projector match uses links")
        return self

    @model_validator(mode="after")
    def _pictures(self) -> Recipe:
        check_use(self)
        return self

    @property
    def contexts(self) -> dict[str, str]:
        """The columns that taggers read beside the words, by the key that names them."""
        return {f"{key}.context": name for key in ("tag", "target_tag") if (name := getattr(self, key).context)}

    @property
    def with_images(self) -> bool:
        """True if rows may have pictures."""
        return self.input.columns.image is not None

    @property
    def two_passes(self) -> bool:
        """True if every unit is matched twice, the second time with a prior from the first."""
        return self.projector == "match" and self.match.two_passes

    @property
    def aligned(self) -> bool:
        """True if an aligner runs."""
        return self.projector == "match" and self.align.backend != "provided"

    @property
    def languages(self) -> list[str]:
        """The languages that receive labels: the run's `lang` values."""
        if self.direction == "train":
            return self.targets
        return self.input.lang if isinstance(self.input.lang, list) else [self.input.lang]

    @property
    def source_side(self) -> str:
        """The language whose entities are known."""
        return str(self.input.lang) if self.direction == "train" else self.source_lang

    @property
    def entities_given(self) -> bool:
        """True if no tagger runs: the entities are the labels of the files with the source side."""
        return self.tag.engine in ("none", "provided")

    @property
    def translations(self) -> list[str]:
        """The languages besides the input's own that text is needed in, given or translated."""
        if self.direction == "test" and self.tag.engine == "none":
            return []  # model transfer, or runs combined onto its rows: there is no source side
        return self.targets if self.direction == "train" else [self.source_lang]

    @property
    def without_text(self) -> list[str]:
        """The languages of `translations` that input.parallel has no text in, sorted."""
        return sorted(set(self.translations) - set(self.input.parallel))

    @property
    def given_is_checked(self) -> bool:
        """True if input.parallel has translations, and they are checked as those of a translator."""
        return not {*self.translations}.isdisjoint(self.input.parallel) and self.translate.health.looks

    @property
    def translate_engine(self) -> str:
        """`provided` if all the text is given, else the engine that makes the rest."""
        return (self.translate.engine or "nllb") if self.without_text else "provided"

    @property
    def labelled(self) -> bool:
        """True if the source entities are people's labels: those of the input of direction train."""
        return self.direction == "train" and self.tag.engine == "none"

    @property
    def opines(self) -> bool:
        """True if a tagger says what it thinks of entities, from which matching, now or again, makes probabilities.

        Only taggers that give probabilities do: the maps are fitted on such, and a language model would read every
        source sentence for it.
        """
        return self.projector == "match" and self.target_tag.engine in ("builtin", "hf")

    @property
    def tag_opines(self) -> bool:
        """True if the stage `tag` says it of its own entities: where target_tag is the same tagger, so that what they
        say can be compared, and no picture changes labels in between. Else target_tag reads the source too."""
        same = ("engine", "model", "labels", "pooling", "temperature", "context")
        return (
            self.opines
            and self.tag.engine in ("builtin", "hf")
            and all(getattr(self.tag, key) == getattr(self.target_tag, key) for key in same)
            and "image" not in self.stages
        )

    @property
    def stages(self) -> list[str]:
        """The stages that run, in order; each has the name of its section."""
        marked = self.projector == "marker"
        wanted = {
            "translate": self.translate_engine != "provided" and not marked,
            "tag": not self.entities_given,
            "image": self.image.engine != "none" and self.input.images.ablation != "none",
            "back_translate": self.back_translate.engine != "none",
            "target_tag": self.target_tag.engine != "none",
            "align": self.aligned,
            "evidence": self.evidence.plugin is not None,
            "likelihood": self.likelihood.engine != "none",
            "constrained": self.projector == "constrained",
            "match": not marked,
        }
        names = [name for name, needed in wanted.items() if needed]
        return [*names, "translate"] if marked else names

    @property
    def unit_rows(self) -> int:
        """The rows of a full unit: those that are stated, else by the device of the stages.

        A GPU wants large micro-batches of sentences of one length, and a unit is what they are drawn from. Apertium's
        units decide its rows, as those of pictures do, which are exchanged inside one; and so no device does.
        """
        decide = self.units_decide
        on_gpu = not decide and any(getattr(self, stage).gpus for stage in self.stages)
        return self.engine.unit_rows or (GPU_UNIT_ROWS if on_gpu else UNIT_ROWS)

    @property
    def units_decide(self) -> bool:
        """True if rows depend on which others are in their unit."""
        return self.looks_at_pictures or "apertium" in map(self.engine_of, self.stages)

    @property
    def shows_pictures(self) -> bool:
        """True if the tagger is shown pictures."""
        return self.tag.images and "tag" in self.stages and self.input.images.ablation != "none"

    @property
    def looks_at_pictures(self) -> bool:
        """True if a stage reads the files of pictures."""
        return self.shows_pictures or "image" in self.stages

    def engine_of(self, stage: str) -> str:
        """Return what makes a stage's results: its engine, the aligner's backend, or the projector."""
        others = {"translate": self.translate_engine, "align": self.align.backend}
        others |= {"evidence": "plugin", "match": self.projector}
        return others.get(stage) or str(getattr(self, stage).engine)

    def models(self) -> Iterator[tuple[str, str]]:
        """Yield the key and the name of every model that the run loads."""
        for key in keys_that(Decides.MODEL):
            stage, name = key.split(".")
            if stage in self.stages and self.engine_of(stage) != "apertium":
                yield key, getattr(getattr(self, stage), name) or _OWN_MODELS[self.engine_of(stage)]

    def with_models(self, names: Mapping[str, str]) -> Recipe:
        """Return the recipe with other names of models, or number formats, by their keys."""
        recipe = self
        for key, model in names.items():
            stage, name = key.split(".")
            section = getattr(recipe, stage).model_copy(update={name: model})
            recipe = recipe.model_copy(update={stage: section})
        return recipe


DECISIONS = decisions(Recipe)


def keys_that(*decide: Decides) -> tuple[str, ...]:
    """Return the dotted keys of the recipe that decide one of these."""
    return tuple(key for key, decides in DECISIONS.items() if decides in decide)


def run_labels(recipe: Recipe, found: Sequence[str]) -> list[str]:
    """Return the labels of the output in the order of their ClassLabel pairs: `keep` as written, else all, sorted.

    found: labels of the input, already renamed; the recipe is resolved, so that the taggers' labels are known.
    """
    if recipe.input.labels.keep is not None:
        return list(recipe.input.labels.keep)
    labels = recipe.tag.own_labels + (recipe.target_tag.own_labels if recipe.projector == "transfer" else [])
    return sorted({*found, *(span.label for span in recipe.input.labels.map(Span(0, 1, label) for label in labels))})
