"""The stage `translate`: fills the side that the input does not give."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from xner_ray.data import words
from xner_ray.data.row import accepted_rows, engine_flags, fill, offset_cells, with_flags
from xner_ray.errors import Reason
from xner_ray.recipe.model import Recipe
from xner_ray.stage import ModelStage
from xner_ray.translate.base import Translation, Translator
from xner_ray.translate.health import HealthChecker


class TranslateStage(ModelStage):
    """Fills text, words, offsets and translation_score of the side that is not given, and flags of its health."""

    name = "translate"

    def __init__(self, recipe: Recipe, translator: Translator) -> None:
        super().__init__(translator)
        self.translator, self.checker = translator, HealthChecker(recipe.translate.health)
        self.side = "" if recipe.direction == "train" else "source_"
        self.mark = engine_flags(recipe.translate_engine)

    def __call__(self, table: pa.Table) -> pa.Table:
        missing = table.column(f"{self.side}text").is_null().to_pylist()
        rows = [index for index in accepted_rows(table) if missing[index]]
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
            flags, reject = self.checker.examine(texts[index], result.text, source, target)
            columns["flags"][index] = [*with_flags(before[index], self.mark), *flags]
            if reject is not None:
                rejects[index] = reject
        return fill(table, columns, rejects)
