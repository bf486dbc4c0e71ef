"""The stages (`xner_ray/stage.py` has their contract), and which of them a recipe needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel

from xner_ray.align.stage import AlignStage
from xner_ray.match.plugin import load
from xner_ray.match.stage import EvidenceStage, LikelihoodStage, MatchStage, PlaceStage, TransferStage
from xner_ray.models.device import budget_of, device_of
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Tag, Translate, Translating
from xner_ray.stage import Budgeted, Stage
from xner_ray.tag.base import Tagger
from xner_ray.tag.stage import TagStage, TargetTagStage
from xner_ray.translate.base import Translator
from xner_ray.translate.bracket_stages import BackTranslateStage, MarkerStage
from xner_ray.translate.stage import TranslateStage

if TYPE_CHECKING:
    from xner_ray.align.aligner import Aligner

M = TypeVar("M", bound=Budgeted)


class Models:
    """Models that stages of several recipes share, by the section that decides them."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[str, str, str], tuple[Budgeted, int]] = {}

    def of(self, kind: str, engine: str, section: BaseModel, load: Callable[[], M]) -> M:
        """Return the model of a section, loaded once.

        One whose micro-batches were halved since is loaded again: else rows would not say so (`engine/guard.py`).
        """
        key = (kind, engine, section.model_dump_json())
        model, budget = self._loaded.pop(key, (None, 0))
        if model is None or model.micro_batch_tokens != budget:
            model = None  # its memory may be needed
            model = load()
        self._loaded[key] = (model, model.micro_batch_tokens)
        return model  # type: ignore[return-value]  # of this kind by its key

    def __len__(self) -> int:
        return len(self._loaded)  # so that none is false

    def clear(self) -> None:
        self._loaded.clear()


def build(name: str, recipe: Recipe, models: Models | None = None) -> Stage:
    """Return one stage with its model loaded, or taken from `models`.

    What a stage needs is imported with it: torch and transformers take seconds.
    """
    models = Models() if models is None else models
    stage: Stage
    if name == "translate" and recipe.projector == "marker":
        section = recipe.translate
        translator = _translator(models, section, recipe.translate_engine)
        stage = MarkerStage(translator, section.min_similarity, section.health)
    elif name == "translate":
        stage = TranslateStage(recipe, _translator(models, recipe.translate, recipe.translate_engine))
    elif name == "back_translate":
        bridge = recipe.back_translate
        stage = BackTranslateStage(_translator(models, bridge, bridge.engine), bridge.min_similarity)
    elif name == "tag":
        pictures = None
        if recipe.shows_pictures:
            from xner_ray.vision.load import InputPictures

            pictures = InputPictures(recipe)
        stage = TagStage(recipe, _tagger(models, recipe.tag, name), pictures)
    elif name == "image":
        from xner_ray.vision.load import load_stage

        stage = load_stage(recipe)
    elif name == "target_tag":
        stage = TargetTagStage(recipe, _tagger(models, recipe.target_tag, name))
    elif name == "align":
        stage = AlignStage(recipe, models.of("aligner", recipe.align.backend, recipe.align, lambda: _aligner(recipe)))
    elif name == "evidence":
        stage = EvidenceStage(recipe, load(recipe.evidence))
    elif name == "constrained":
        from xner_ray.translate.constrained_stage import ConstrainedStage, MarkerScorer

        places = recipe.constrained
        stage = ConstrainedStage(recipe, models.of("marker", places.engine, places, lambda: MarkerScorer(places)))
    elif name == "likelihood":
        from xner_ray.translate.likelihood import LikelihoodScorer

        likely = recipe.likelihood
        stage = LikelihoodStage(
            recipe, models.of("likelihood", likely.engine, likely, lambda: LikelihoodScorer(likely))
        )
    elif recipe.projector == "transfer":
        stage = TransferStage(recipe.input.labels)
    elif recipe.projector == "constrained":
        stage = PlaceStage(recipe)
    else:
        stage = MatchStage(recipe)
    return stage


def _translator(models: Models, section: Translating, engine: str) -> Translator:
    return models.of("translator", engine, section, lambda: _load_translator(section, engine))


def _load_translator(section: Translating, engine: str) -> Translator:
    if engine == "ctranslate2":
        from xner_ray.translate.ct2 import Ct2Translator

        return Ct2Translator(section)
    if engine == "llm":
        from xner_ray.translate.llm import LlmTranslator

        assert isinstance(section, Translate)
        return LlmTranslator(section)
    if engine == "apertium":
        from xner_ray.translate.apertium import ApertiumTranslator

        return ApertiumTranslator(section)
    from xner_ray.translate.nllb import NllbTranslator

    return NllbTranslator(section)


def _tagger(models: Models, section: Tag, key: str) -> Tagger:
    return models.of(key, section.engine, section, lambda: _load_tagger(section, key))


def _load_tagger(section: Tag, key: str) -> Tagger:
    if section.engine == "builtin":
        from xner_ray.tag.builtin import BuiltinTagger

        return BuiltinTagger(section, key)
    if section.engine == "hf":
        from xner_ray.tag.hf import HfTagger

        return HfTagger(section, key)
    if section.engine == "llm":
        from xner_ray.tag.llm import LlmTagger

        return LlmTagger(section, key)
    from xner_ray.tag.spacy import SpacyTagger

    return SpacyTagger(section)


def _aligner(recipe: Recipe) -> Aligner:
    from xner_ray.align.aligner import BatchAligner
    from xner_ray.align.encoder import Encoder
    from xner_ray.align.linking import AlignOptions
    from xner_ray.align.simalign import SimAligner

    section = recipe.align
    place = device_of(section)
    options = AlignOptions(
        level=section.level,
        center=section.center,
        similarity=section.similarity,
        temperature=section.temperature,
        threshold=section.threshold,
        distortion=section.distortion,
    )
    if section.backend == "simalign":
        return SimAligner(
            section.encoder,
            layer=section.layer,
            options=options,
            methods=[section.method],
            device=place,
            threads=section.threads,
        )
    encoder = Encoder(
        section.encoder,
        layer=section.layer,
        device=place,
        dtype=section.dtype,
        threads=section.threads,
        micro_batch_tokens=budget_of(section),
    )
    return BatchAligner(encoder, options, methods=[section.method])
