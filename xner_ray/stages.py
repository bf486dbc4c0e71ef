"""The stages (`stage.py` has their contract), and which of them a recipe needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from xner_ray import projection, words
from xner_ray.candidates import Candidates
from xner_ray.contenders import best_first
from xner_ray.errors import Flag, Reason
from xner_ray.evidence import score_cells, tag_cells
from xner_ray.marked_translation import BackTranslateStage, MarkerStage
from xner_ray.match import limits
from xner_ray.plugin import EvidenceStage, load
from xner_ray.prior import Prior
from xner_ray.recipe import Recipe
from xner_ray.schema import fill, giving_way, live, offset_cells, span_cells
from xner_ray.scores import Floats, threshold
from xner_ray.sections import Tag, Translate, Translating
from xner_ray.stage import ModelStage, Stage, device_of
from xner_ray.tag import Tagger
from xner_ray.transfer import TransferStage
from xner_ray.translate import Translation, Translator
from xner_ray.translate.examining import Examiner

if TYPE_CHECKING:
    from xner_ray.aligner import Aligner
    from xner_ray.translate.likelihood import LikelihoodScorer

Offset = dict[str, int]


class TranslateStage(ModelStage):
    """Fills the side that the input did not give: text, words, offsets, translation_score; flags of its health."""

    name = "translate"

    def __init__(self, recipe: Recipe, translator: Translator) -> None:
        super().__init__(translator)
        self.translator, self.examiner = translator, Examiner(recipe.translate.health)
        self.side = "" if recipe.direction == "train" else "source_"
        self.mark = _mark(recipe.translate_engine)

    def __call__(self, table: pa.Table) -> pa.Table:
        missing = table.column(f"{self.side}text").is_null().to_pylist()
        rows = [index for index in live(table) if missing[index]]
        if not rows:
            return table
        given = "source_text" if self.side == "" else "text"
        texts = table.column(given).to_pylist()
        lang, source_lang = table.column("lang")[rows[0]].as_py(), table.column("source_lang")[rows[0]].as_py()
        source, target = (source_lang, lang) if self.side == "" else (lang, source_lang)
        results = self.translator.translate([texts[index] for index in rows], source, target)
        columns: dict[str, dict[int, Any]] = {
            name: {} for name in (f"{self.side}text", f"{self.side}tokens", f"{self.side}offsets", "translation_score")
        }
        columns["flags"] = {}
        before = table.column("flags").to_pylist()
        rejects: dict[int, tuple[Reason, str]] = {}
        for index, result in zip(rows, results, strict=True):
            if not isinstance(result, Translation):
                rejects[index] = result
                continue
            offsets = words.split(result.text, target)
            columns[f"{self.side}text"][index] = result.text
            columns[f"{self.side}tokens"][index] = [result.text[start:end] for start, end in offsets]
            columns[f"{self.side}offsets"][index] = offset_cells(offsets)
            columns["translation_score"][index] = None if result.score is None else round(result.score, 4)
            flags, reject = self.examiner.examine(texts[index], result.text, source, target)
            columns["flags"][index] = [*_marked(before[index], self.mark), *flags]
            if reject is not None:
                rejects[index] = reject
        return fill(table, columns, rejects)


class TagStage(ModelStage):
    """Fills source_spans where they are not given; the run's label map applies to the tagger's labels too."""

    name = "tag"

    def __init__(self, recipe: Recipe, tagger: Tagger) -> None:
        super().__init__(tagger)
        self.tagger, self.labels, self.mark = tagger, recipe.input.labels, _mark(recipe.tag.engine)

    def __call__(self, table: pa.Table) -> pa.Table:
        missing = table.column("source_spans").is_null().to_pylist()
        rows = [index for index in live(table) if missing[index]]
        tokens, offsets = table.column("source_tokens").to_pylist(), table.column("source_offsets").to_pylist()
        found = self.tagger.tag([(tokens[index], _spaces(offsets[index])) for index in rows])
        columns: dict[str, dict[int, Any]] = {"source_spans": {}, "unprojected": {}, "flags": {}}
        flags = table.column("flags").to_pylist()
        rejects: dict[int, tuple[Reason, str]] = {}
        for index, result in zip(rows, found, strict=True):
            if isinstance(result, tuple):
                rejects[index] = result
                continue
            spans = list(dict.fromkeys(self.labels.map(result)))
            columns["source_spans"][index] = span_cells(spans)
            if lost := giving_way(spans):
                columns["unprojected"][index] = lost
            if self.mark:
                columns["flags"][index] = _marked(flags[index], self.mark)
        return fill(table, columns, rejects)


class AlignStage(ModelStage):
    """Fills links, of the bridge's words where there is a bridge.

    A sentence without entities has nothing to project, so it is not encoded and has no links.
    """

    name = "align"

    def __init__(self, recipe: Recipe, aligner: Aligner) -> None:
        super().__init__(aligner)
        self.aligner = aligner

    def __call__(self, table: pa.Table) -> pa.Table:
        bridged = pc.is_valid(table.column("bridge_spans"))
        spans = pc.if_else(
            bridged,
            pc.list_value_length(table.column("bridge_spans")),
            pc.list_value_length(table.column("source_spans")),
        ).to_pylist()
        alive = live(table)
        rows = np.array([index for index in alive if spans[index]], dtype=np.int64)
        source = pc.if_else(bridged, table.column("bridge_tokens"), table.column("source_tokens"))
        sides = [side.take(pa.array(rows)).to_pylist() for side in (source, table.column("tokens"))]
        links, found = self.aligner.align(*sides)
        links = replace(links, row=rows[links.row].astype(np.int32))
        rejects = {int(rows[position]): reject for position, reject in found.items()}
        position = table.schema.get_field_index("links")
        known = np.zeros(table.num_rows, dtype=np.bool_)
        known[[index for index in alive if index not in rejects]] = True
        column = pc.if_else(pa.array(known), links.to_arrow(table.num_rows), table.column(position).combine_chunks())
        return fill(table.set_column(position, table.schema.field(position), column), {}, rejects)


class TargetTagStage(ModelStage):
    """Fills target_tags of rows that have an entity to place; of all rows where the tags are the result."""

    name = "target_tag"

    def __init__(self, recipe: Recipe, tagger: Tagger) -> None:
        super().__init__(tagger)
        self.tagger, self.every_row = tagger, recipe.projector == "transfer"
        self.mark = _mark(recipe.target_tag.engine)

    def __call__(self, table: pa.Table) -> pa.Table:
        spans = table.column("source_spans").to_pylist()
        rows = [index for index in live(table) if spans[index] or self.every_row]
        tokens = table.column("tokens").take(pa.array(rows, pa.int64())).to_pylist()
        found = self.tagger.probabilities(tokens)
        flags = table.column("flags").to_pylist()
        rejects = {index: each for index, each in zip(rows, found, strict=True) if isinstance(each, tuple)}
        tagged = {index: each for index, each in zip(rows, found, strict=True) if not isinstance(each, tuple)}
        columns: dict[str, dict[int, Any]] = {
            "target_tags": {index: tag_cells(each, self.tagger.labels) for index, each in tagged.items()},
            "flags": {index: _marked(flags[index], self.mark) for index in tagged if self.mark},
        }
        return fill(table, columns, rejects)


class LikelihoodStage(ModelStage):
    """Fills evidence with the likelihood of the candidates that can still win the first matching by it.

    Each entity's best candidates by the other scores come first; what these rule out is not computed and counts 0
    (`contenders.py`). Texts are the words of entity and candidate as they stand in their sentences.
    """

    name = "likelihood"

    def __init__(self, recipe: Recipe, scorer: LikelihoodScorer) -> None:
        super().__init__(scorer)
        self.settings, self.method, self.scorer = recipe.match, recipe.align.method, scorer

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = projection.read(table)
        problem, weights = rows.problem, projection.shares(self.settings, None)
        at_most = projection.thresholds(self.settings, weights)
        spans, found = projection.measure(rows, self.settings, self.method, None)
        values = np.zeros(len(spans))
        if len(problem):
            first = int(problem.row[0])
            langs = [table.column(name)[first].as_py() for name in ("source_lang", "lang")]
            pairs = _phrases(table, rows, spans)

            def score(index: NDArray[np.intp]) -> Floats:
                values[index] = self.scorer.score([pairs(cell) for cell in index.tolist()], *langs)
                return threshold(values[index], at_most[self.name])

            others = sorted(set(weights) - {self.name})
            base = [weights[name] * threshold(found[name], at_most.get(name, 0.0)) for name in others]
            best_first(
                problem,
                spans,
                np.sum([np.zeros(len(spans)), *base], axis=0),
                weights[self.name],
                score,
                min_score=self.settings.min_score,
                one_each=limits(self.settings.per_entity)[1] == 1,
            )
        row, cells = score_cells({self.name: values}, problem, rows.source, spans)
        before = table.column("evidence").to_pylist()  # of a plug-in
        by_row: dict[int, list[Any]] = {index: before[index] or [] for index in live(table)}
        for index, cell in zip(row.tolist(), cells, strict=True):
            by_row[index].append(cell)
        return fill(table, {"evidence": by_row})


def _phrases(table: pa.Table, rows: projection.Rows, spans: Candidates) -> Callable[[int], tuple[str, str]]:
    """The texts of a cell's entity, never of the bridge, and of its candidate, as they stand in their sentences."""
    names = ("source_text", "source_offsets", "source_spans", "text", "offsets")
    columns = {name: table.column(name).to_pylist() for name in names}

    def pair(cell: int) -> tuple[str, str]:
        entity = int(spans.entity[cell])
        row = int(rows.problem.row[entity])
        span = columns["source_spans"][row][int(rows.source[entity])]
        places = ("source_", span["start"], span["end"]), ("", int(spans.start[cell]), int(spans.end[cell]))
        source, target = (
            columns[f"{side}text"][row][
                columns[f"{side}offsets"][row][start]["start"] : columns[f"{side}offsets"][row][end - 1]["end"]
            ]
            for side, start, end in places
        )
        return source, target

    return pair


class MatchStage:
    """Fills `projection.WRITES`: a pure function of each row and the prior of its language."""

    name = "match"
    tokens = 0
    model_seconds = 0.0
    micro_batch_tokens = 0
    recall = None

    def __init__(self, recipe: Recipe, prior: Prior | None = None) -> None:
        self.settings, self.method, self.prior = recipe.match, recipe.align.method, prior

    def __call__(self, table: pa.Table) -> pa.Table:
        return projection.project(table, self.settings, self.method, self.prior)


def stage_names(recipe: Recipe) -> list[str]:
    """The stages that a recipe needs, in order; each is the name of its section too."""
    marked = recipe.projector == "marker"
    wanted = {
        "translate": recipe.translate_engine != "provided" and not marked,
        "tag": not recipe.entities_given,
        "back_translate": recipe.back_translate.engine != "none",
        "target_tag": recipe.target_tag.engine != "none",
        "align": recipe.aligned,
        "evidence": recipe.evidence.plugin is not None,
        "likelihood": recipe.likelihood.engine != "none",
        "match": not marked,
    }
    names = [name for name, needed in wanted.items() if needed]
    return [*names, "translate"] if marked else names


def build(name: str, recipe: Recipe) -> Stage:
    """One stage with its model loaded. What a stage needs is imported with it: torch and transformers take seconds."""
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
        stage = TagStage(recipe, _tagger(recipe.tag, name))
    elif name == "target_tag":
        stage = TargetTagStage(recipe, _tagger(recipe.target_tag, name))
    elif name == "align":
        stage = AlignStage(recipe, _aligner(recipe))
    elif name == "evidence":
        stage = EvidenceStage(recipe, load(recipe.evidence))
    elif name == "likelihood":
        from xner_ray.translate.likelihood import LikelihoodScorer

        stage = LikelihoodStage(recipe, LikelihoodScorer(recipe.likelihood))
    elif recipe.projector == "transfer":
        stage = TransferStage(recipe.input.labels)
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
    if section.engine == "hf":
        from xner_ray.tag.hf import HfTagger

        return HfTagger(section, key)
    if section.engine == "llm":
        from xner_ray.tag.llm import LlmTagger

        return LlmTagger(section, key)
    from xner_ray.tag.spacy import SpacyTagger

    return SpacyTagger(section)


def _aligner(recipe: Recipe) -> Aligner:
    from xner_ray.align import AlignOptions
    from xner_ray.aligner import BatchAligner
    from xner_ray.encode import Encoder
    from xner_ray.simalign_backend import SimAligner

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
        micro_batch_tokens=section.micro_batch_tokens,
    )
    return BatchAligner(encoder, options, methods=[section.method])


def _mark(engine: str) -> list[str]:
    """The flags of every row that an engine has filled."""
    return [Flag.BY_LLM] if engine == "llm" else []


def _marked(flags: list[str] | None, mark: list[str]) -> list[str]:
    return [*(flags or ()), *(flag for flag in mark if flag not in (flags or ()))]


def _spaces(offsets: list[Offset]) -> list[bool]:
    """For each word whether white space follows it in its text."""
    return [left["end"] < right["start"] for left, right in pairwise(offsets)] + [False]
