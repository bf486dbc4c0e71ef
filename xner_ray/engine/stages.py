"""The stages (`xner_ray/stage.py` has their contract), and which of them a recipe needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xner_ray.align.stage import AlignStage
from xner_ray.match.plugin import load
from xner_ray.match.stage import EvidenceStage, LikelihoodStage, MatchStage, PlaceStage, TransferStage
from xner_ray.models.device import budget_of, device_of
from xner_ray.recipe.model import Recipe
from xner_ray.recipe.sections import Tag, Translate, Translating
from xner_ray.stage import Stage
from xner_ray.tag.base import Tagger
from xner_ray.tag.stage import TagStage, TargetTagStage
from xner_ray.translate.base import Translator
from xner_ray.translate.bracket_stages import BackTranslateStage, MarkerStage
from xner_ray.translate.stage import TranslateStage

if TYPE_CHECKING:
    from xner_ray.align.aligner import Aligner


def build(name: str, recipe: Recipe) -> Stage:
    """Return one stage with its model loaded.

    What a stage needs is imported with it: torch and transformers take seconds.
    """
    stage: Stage
    if name == "translate" and recipe.projector == "marker":
        section = recipe.translate
        stage = MarkerStage(_translator(section, recipe.translate_engine), section.min_similarity, section.health)
    elif name == "translate":
        stage = TranslateStage(recipe, _translator(recipe.translate, recipe.translate_engine))
    elif name == "back_translate":
        bridge = recipe.back_translate
        stage = BackTranslateStage(_translator(bridge, bridge.engine), bridge.min_similarity)
    elif name == "tag":
        pictures = None
        if recipe.shows_pictures:
            from xner_ray.vision.load import InputPictures

            pictures = InputPictures(recipe)
        stage = TagStage(recipe, _tagger(recipe.tag, name), pictures)
    elif name == "image":
        from xner_ray.vision.load import load_stage

        stage = load_stage(recipe)
    elif name == "target_tag":
        stage = TargetTagStage(recipe, _tagger(recipe.target_tag, name))
    elif name == "align":
        stage = AlignStage(recipe, _aligner(recipe))
    elif name == "evidence":
        stage = EvidenceStage(recipe, load(recipe.evidence))
    elif name == "constrained":
        from xner_ray.translate.constrained_stage import ConstrainedStage, MarkerScorer

        stage = ConstrainedStage(recipe, MarkerScorer(recipe.constrained))
    elif name == "likelihood":
        from xner_ray.translate.likelihood import LikelihoodScorer

        stage = LikelihoodStage(recipe, LikelihoodScorer(recipe.likelihood))
    elif recipe.projector == "transfer":
        stage = TransferStage(recipe.input.labels)
    elif recipe.projector == "constrained":
        stage = PlaceStage(recipe)
    else:
        stage = MatchStage(recipe)
    return stage


def _translator(section: Translating, engine: str) -> Translator:
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


def _tagger(section: Tag, key: str) -> Tagger:
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
