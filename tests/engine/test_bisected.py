"""A row that makes a model raise is rejected; its neighbours are all there, as without it, and flagged."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from made_rows import table_from_rows
from tiny_taggers import random_model

from xner_ray.align.aligner import BatchAligner
from xner_ray.align.encoder import Encoder
from xner_ray.align.stage import AlignStage
from xner_ray.data import row as data_row
from xner_ray.data.spans import Span
from xner_ray.engine.guard import run_stage
from xner_ray.errors import Flag
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.sections import Tag, Translate
from xner_ray.stage import ModelStage
from xner_ray.tag.hf import HfTagger
from xner_ray.tag.stage import TargetTagStage
from xner_ray.translate.ct2 import Ct2Translator
from xner_ray.translate.nllb import NllbTranslator
from xner_ray.translate.stage import TranslateStage

DATA = Path(__file__).parents[2] / "jobs" / "data"
RECIPE = load_recipe({"input": {"path": "a.conll"}, "targets": ["spa_Latn"]})
POISON = (3, 17)


pytestmark = pytest.mark.usefixtures("one_thread")


def _words(name: str, number: int) -> list[list[str]]:
    blocks = (DATA / name).read_text(encoding="utf-8").strip().split("\n\n")
    rows = [[line.split("\t")[0] for line in block.splitlines() if not line.startswith("# ")] for block in blocks]
    return rows[:number]


def _table(source: Sequence[Sequence[str]], target: Sequence[Sequence[str] | None]) -> pa.Table:
    rows = []
    for number, (a, b) in enumerate(zip(source, target, strict=True)):
        cells: dict[str, Any] = {"row": number, "id": str(number), "source_lang": "eng_Latn", "lang": "spa_Latn"}
        for prefix, side in (("source_", a), ("", b)):
            if side is not None:
                cells |= {f"{prefix}text": " ".join(side), f"{prefix}tokens": list(side)}
                cells |= {f"{prefix}offsets": data_row.offset_cells(_offsets(side))}
        rows.append({**cells, "source_spans": data_row.span_cells([Span(0, 1, "PER")])})
    return table_from_rows(rows, data_row.ROW)


def _offsets(side: Sequence[str]) -> list[tuple[int, int]]:
    offsets, at = [], 0
    for word in side:
        offsets.append((at, at + len(word)))
        at += len(word) + 1
    return offsets


class Watched:
    """A model's own call, which raises on what it is told to."""

    def __init__(self, call: Callable[..., Any], ids_of: Callable[..., list[list[int]]]) -> None:
        self.call, self.ids_of = call, ids_of
        self.poison: list[list[int]] = []
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.call, name)  # of a network: its device

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        if any(row in self.poison for row in self.ids_of(*arguments, **named)):
            raise ValueError("the model cannot read this")
        return self.call(*arguments, **named)


def _ids(input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[list[int]]:
    return [row[mask > 0].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)]


def _compare(stage: ModelStage, watched: Watched, table: pa.Table, poison: list[list[int]]) -> None:
    undisturbed, _ = run_stage(stage, table)
    assert watched.calls > 1, "several micro-batches"
    watched.poison = poison
    result, stats = run_stage(stage, table)
    assert stats.rejects == {"stage_error": len(POISON)}
    assert result.num_rows == table.num_rows
    for row, expected in zip(result.to_pylist(), undisturbed.to_pylist(), strict=True):
        if row["row"] in POISON:
            assert row["detail"] == f"{stage.name}: ValueError: the model cannot read this"
            assert not row["flags"]
        else:
            assert row["flags"] == [*(expected["flags"] or []), Flag.BISECTED]
            assert _equal(row | {"flags": None}, expected | {"flags": None})


def _equal(cell: Any, other: Any) -> bool:
    """Everything but floats is equal, and these are so to the last digit that is kept."""
    if isinstance(cell, float):
        return cell == pytest.approx(other, abs=1.1e-4)
    if isinstance(cell, dict):
        return cell.keys() == other.keys() and all(_equal(cell[key], other[key]) for key in cell)
    if isinstance(cell, list):
        return len(cell) == len(other) and all(map(_equal, cell, other))
    return bool(cell == other)


@pytest.mark.slow
def test_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = _words("europarl.en.conll", 40), _words("europarl.es.conll", 40)
    aligner = BatchAligner(Encoder("builtin", micro_batch_tokens=256, threads=1))
    encoder = aligner.encoder
    poison = [encoder.split([target[row]]).ids.tolist() for row in POISON]
    watched = Watched(encoder.network, lambda inputs: _ids(**inputs))
    monkeypatch.setattr(encoder, "network", watched)
    _compare(AlignStage(RECIPE, aligner), watched, _table(source, target), poison)


@pytest.mark.slow
@pytest.mark.parametrize("engine", [NllbTranslator, Ct2Translator])
def test_translation(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = _words("templates.en.conll", 48)
    translator = engine(Translate(model="tiny-nllb", micro_batch_tokens=256))
    translator.tokenizer.src_lang = "eng_Latn"
    poison = translator.tokenizer([" ".join(texts[row]) for row in POISON])["input_ids"]
    watched = Watched(translator._generate, lambda ids, *_: ids)
    monkeypatch.setattr(translator, "_generate", watched)
    _compare(TranslateStage(RECIPE, translator), watched, _table(texts, [None] * len(texts)), poison)


def test_tagging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [[chr(97 + (n * 7 + k * k) % 26) * (1 + k % 3) for k in range(2 + n % 9)] for n in range(40)]
    tagger = HfTagger(Tag(engine="hf", model=random_model(tmp_path), micro_batch_tokens=64), "target_tag")
    poison = [tagger.tokenizer(sentences[row], is_split_into_words=True)["input_ids"] for row in POISON]
    watched = Watched(tagger.network, _ids)
    monkeypatch.setattr(tagger, "network", watched)
    _compare(TargetTagStage(RECIPE, tagger), watched, _table(sentences, sentences), poison)
