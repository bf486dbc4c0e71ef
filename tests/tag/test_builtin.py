"""The built-in tagger, and what it shares with the aligner."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import digests
from safetensors.torch import load_file
from sample_text import SAMPLES, conll

import xner_ray
from xner_ray.align.encoder import Encoder
from xner_ray.data.spans import Span
from xner_ray.errors import RecipeError
from xner_ray.models import e5, kept, network
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.sections import BUILTIN_TAGGER, Tag
from xner_ray.stage import forget
from xner_ray.tag import builtin
from xner_ray.tag.base import Sentence
from xner_ray.tag.builtin import BuiltinTagger, resolve
from xner_ray.tag.hf import HfTagger
from xner_ray.tag.stage import TargetTagStage
from xner_ray.train.network import Student
from xner_ray.train.recipe import Model

pytestmark = pytest.mark.slow


def _tagger(**options: Any) -> BuiltinTagger:
    return BuiltinTagger(Tag(engine="builtin", **options))


def _sentence(text: str) -> Sentence:
    words = text.split()
    return words, [True] * len(words)


def test_names_of_several_languages_are_found() -> None:
    texts = [
        "Angela Merkel met the United Nations in New York .",
        "Angela Merkel möttes i Stockholm .",
        "Marija Horvat živi u Zagrebu .",
        "",
    ]
    found = _tagger().tag([_sentence(text) for text in texts])
    plain = [{(span.start, span.end, span.label) for span in spans} for spans in found]
    assert plain[0] == {(0, 2, "PER"), (4, 6, "ORG"), (7, 9, "LOC")}
    assert plain[1] == {(0, 2, "PER"), (4, 5, "LOC")}
    assert plain[2] == {(0, 2, "PER"), (4, 5, "LOC")}
    assert plain[3] == set()
    assert all(0.3 < span.score <= 1 for spans in found for span in spans if span.score is not None)


def test_as_a_model_of_its_own_it_tags_alike(tmp_path: Path) -> None:
    texts = ["Angela Merkel met the United Nations in New York .", "Marija Horvat živi u Zagrebu .", "no one"]
    sentences = [_sentence(text) for text in texts]
    folder = e5.tagger_folder()
    assert HfTagger(Tag(engine="hf", model=str(folder))).tag(sentences) == _tagger().tag(sentences)
    assert "Attribution-ShareAlike 4.0" in (folder / "LICENSE.txt").read_text(encoding="utf-8")


def test_a_student_begins_with_its_layers_and_its_head() -> None:
    student = Student(Model(encoder=BUILTIN_TAGGER), ["LOC", "PER"], seed=0, device=torch.device("cpu"))
    learns = {name for name, weight in student.module.named_parameters() if weight.requires_grad}
    layers = {name.split(".")[3] for name in learns if ".layer." in name}
    assert student.keeps_head and layers == {"7", "8"} and not any("embeddings" in name for name in learns)
    own = load_file(builtin.WEIGHTS)
    assert torch.equal(student.module.classifier.weight.detach(), own["classifier.weight"].float())
    other = Student(Model(encoder=BUILTIN_TAGGER), ["DATE"], seed=0, device=torch.device("cpu"))
    assert not other.keeps_head and other.names == ["O", "B-DATE", "I-DATE"]


def test_its_weights_are_small_and_its_own() -> None:
    assert builtin.WEIGHTS.stat().st_size < 8_000_000
    assert "Attribution-ShareAlike 4.0" in (builtin.FOLDER / "LICENSE.txt").read_text(encoding="utf-8")
    section, identities = resolve(Tag(engine="builtin"), "tag")
    assert section.labels == {"LOC": "LOC", "ORG": "ORG", "PER": "PER"}
    assert section.own_labels == ["LOC", "ORG", "PER"]
    assert list(identities) == ["model"]


def test_its_labels_can_be_renamed_and_dropped() -> None:
    found = _tagger(labels={"PER": "person", "ORG": None}).tag([_sentence("Angela Merkel met the United Nations .")])
    assert [(span.start, span.end, span.label) for span in found[0]] == [(0, 2, "person")]
    with pytest.raises(RecipeError, match=r"target_tag\.labels\.MISC: the built-in tagger has no such label"):
        resolve(Tag(engine="builtin", labels={"MISC": "x"}), "target_tag")


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(builtin.FOLDER, tmp_path / "uner")
    weights = folder / builtin.WEIGHTS.name
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    monkeypatch.setattr(builtin, "WEIGHTS", weights)
    with pytest.raises(RecipeError, match=r"tag\.engine is builtin, but .* has sha256 .*: install xner_ray again"):
        resolve(Tag(engine="builtin"), "tag")


def test_it_is_the_whole_model_in_one() -> None:
    """Frozen layers and own ones, each computed by code of ours, give what one plain model of nine layers gives."""
    from safetensors.torch import load_file
    from transformers import AutoModel

    from xner_ray.models.e5 import builtin_folder

    plain = AutoModel.from_pretrained(builtin_folder(), num_hidden_layers=9, dtype=torch.float32).eval()
    own = {name: value.float() for name, value in load_file(builtin.WEIGHTS).items()}
    for number in range(2):
        start = f"layers.{number}."
        layer = {name.removeprefix(start): value for name, value in own.items() if name.startswith(start)}
        plain.encoder.layer[7 + number].load_state_dict(layer)
    tagger = _tagger()
    words = ["Angela", "Merkel", "met", "the", "United", "Nations", "in", "New", "York", "."]
    ids = tagger.tokenizer([words], is_split_into_words=True, return_tensors="pt")
    first = [ids.word_ids(0).index(number) for number in range(len(words))]
    with torch.inference_mode():
        states = plain(input_ids=ids["input_ids"], attention_mask=ids["attention_mask"]).last_hidden_state[0]
        logits = states @ own["classifier.weight"].T + own["classifier.bias"]
    wanted = torch.softmax(logits, dim=-1)[first] @ tagger.to_columns
    np.testing.assert_allclose(tagger.probabilities([words])[0], wanted.numpy(), atol=2e-4)


def _recipe(folder: Path, **sections: Any) -> dict[str, Any]:
    for side in ("en", "es"):
        lines = [" ".join(words) for words in conll(SAMPLES / f"europarl.{side}.conll")[:150]]
        (folder / f"{side}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    given = {"path": str(folder / "en.txt"), "parallel": {"spa_Latn": str(folder / "es.txt")}}
    base = {"input": given, "targets": ["spa_Latn"], "tag": {"engine": "builtin"}}
    return {**base, "engine": {"executor": "inline", "unit_rows": 64}, **sections}


def test_a_run_reads_each_sentence_once_and_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: Counter[int] = Counter()
    forward = network.Network.__call__

    def counted(self: network.Network, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        passes[int(inputs["attention_mask"].sum())] += 1
        return forward(self, inputs)

    monkeypatch.setattr(network.Network, "__call__", counted)
    report = xner_ray.project(_recipe(tmp_path), tmp_path / "shared")
    together = sum(tokens * number for tokens, number in passes.items())
    passes.clear()
    monkeypatch.setitem(kept.KEPT_BYTES, "cpu", 0)
    xner_ray.project(_recipe(tmp_path), tmp_path / "apart")
    apart = sum(tokens * number for tokens, number in passes.items())
    assert digests(tmp_path / "shared") == digests(tmp_path / "apart")
    assert apart - together == report["stages"]["align"]["tokens"]


def test_states_that_nobody_wants_are_not_kept() -> None:
    tagger = _tagger()
    tagger.tag([_sentence("Oslo .")])
    assert not tagger.shared.kept._kept
    encoder = Encoder("builtin")
    assert encoder.network is tagger.shared.network
    tagger.tag([_sentence("Oslo .")])
    assert len(tagger.shared.kept._kept) == 1
    encoder.encode([["Oslo", "."]])
    assert not tagger.shared.kept._kept
    tagger.tag([_sentence("Oslo .")])
    encoder.kept.forget()
    assert not tagger.shared.kept._kept


def test_spans_have_the_mean_probability_of_their_tags() -> None:
    tagger = _tagger()
    words, spaces = _sentence("Angela Merkel met the United Nations .")
    rows = tagger.probabilities([words])[0]
    for span in tagger.tag([(words, spaces)])[0]:
        assert isinstance(span, Span)
        assert span.score == pytest.approx(float(rows.max(axis=1)[span.start : span.end].mean()), abs=1e-4)


def test_a_failed_call_leaves_no_states() -> None:
    tagger, encoder = _tagger(), Encoder("builtin")
    stage = TargetTagStage(load_recipe({"input": {"path": "a"}, "targets": ["spa_Latn"]}), tagger)
    tagger.tag([_sentence("Oslo .")])
    assert len(encoder.kept._kept) == 1
    forget(stage)
    assert not encoder.kept._kept
