"""Students over tiny models of many kinds: halves, what learns, what is saved."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from students import CPU, fitting, held, sentences, student, toy
from tiny_encoders import POSITIONS, save_tokenizer, tiny
from tiny_taggers import IOB2, XLMR_CONLL03, random_model

from xner_ray.data.spans import Span
from xner_ray.errors import RecipeError
from xner_ray.models.trainer import state_of
from xner_ray.recipe.sections import Tag
from xner_ray.tag.hf import HfTagger
from xner_ray.train import loop
from xner_ray.train.network import Student
from xner_ray.train.recipe import Model
from xner_ray.train.student import scored
from xner_ray.train.windows import encode


def _encoder(folder: Path, kind: str) -> str:
    import transformers as t

    torch.manual_seed(0)
    common: dict[str, Any] = {"vocab_size": 31, "pad_token_id": 1, "num_hidden_layers": 4, "num_attention_heads": 2}
    common |= {"hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": POSITIONS + 2}
    deberta = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "norm_rel_ebd": "layer_norm"}
    makers: dict[str, Any] = {
        "roberta": lambda: t.RobertaModel(t.RobertaConfig(**common)),
        "electra": lambda: t.ElectraModel(t.ElectraConfig(**common, embedding_size=8)),
        "distilbert": lambda: t.DistilBertModel(
            t.DistilBertConfig(vocab_size=31, pad_token_id=1, dim=16, n_layers=4, n_heads=2, hidden_dim=24)
        ),
        "deberta-v2": lambda: t.DebertaV2Model(t.DebertaV2Config(**common, **deberta, conv_kernel_size=3)),
        "mpnet": lambda: t.MPNetModel(t.MPNetConfig(**common)),
        "gpt2": lambda: t.GPT2Model(t.GPT2Config(vocab_size=31, n_embd=16, n_layer=4, n_head=2, n_positions=POSITIONS)),
        # Layers 1 and 3 see two neighbours: a layer run under another number would see others
        "modernbert": lambda: t.ModernBertModel(
            t.ModernBertConfig(
                **common, bos_token_id=0, eos_token_id=2, cls_token_id=0, sep_token_id=2,
                global_attn_every_n_layers=2, local_attention=2,
            )
        ),
        "t5": lambda: t.T5Model(
            t.T5Config(vocab_size=31, d_model=16, d_kv=8, d_ff=24, num_layers=4, num_heads=2, decoder_start_token_id=1)
        ),
    }  # fmt: skip
    if kind not in makers:
        return tiny(folder, kind)
    makers[kind]().eval().save_pretrained(folder)
    save_tokenizer(folder)
    return str(folder)


KINDS = ["bert", "xlm-roberta", "roberta", "electra", "distilbert", "deberta-v2", "mpnet", "gpt2", "modernbert", "t5"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_two_halves_are_the_whole_and_only_what_is_above_learns(kind: str, tmp_path: Path) -> None:
    found = student(tmp_path, encoder=_encoder(tmp_path, kind), frozen=2)
    assert found.splits == (kind != "t5")
    table = toy()
    pieces = encode(table, found.tokenizer, found.positions)
    rows = list(range(len(pieces.lengths)))
    names = [name for name, _ in found.module.named_parameters()]
    for training in (False, True):
        found.train(training)
        states = found.states(pieces, rows) if found.splits else None
        found.train(False)
        whole, words = found.logits(pieces, rows, None)
        parts, again = found.logits(pieces, rows, states)
        assert (words == again).all() and words.tolist() == list(range(int(pieces.first[-1])))
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-5)
    assert [name for name, _ in found.module.named_parameters()] == names
    # Weights that learn may change as they will: the frozen layers' output stays
    below = copy.deepcopy(found.module)
    with torch.no_grad():
        for name, parameter in below.named_parameters():
            if name in state_of(found.module):
                parameter.add_(1.0)
    kept: list[torch.Tensor] = []
    for module in (found.module, below):
        stack = next(m for m in module.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 4)
        stack[1].register_forward_hook(lambda _m, _i, out: kept.append(out[0] if isinstance(out, tuple) else out))
        module.eval()(**found._probe)
    assert torch.equal(*kept)
    stack = found.stack
    assert stack is not None
    body, head = found.parameters()
    learning = {id(parameter) for parameter in [*body, *head]}
    assert {id(p) for layer in list(stack)[2:] for p in layer.parameters()} <= learning
    assert head and not {id(p) for layer in list(stack)[:2] for p in layer.parameters()} & learning


@pytest.mark.parametrize("kind", ["bert", "gpt2", "modernbert"])
def test_dropout_is_off_in_what_is_frozen(kind: str, tmp_path: Path) -> None:
    found = student(tmp_path, encoder=_encoder(tmp_path, kind), frozen=2, dropout=0.5)
    pieces = encode(toy(), found.tokenizer, found.positions)
    found.train()
    for one, two in zip(found.states(pieces, [0, 1, 2]), found.states(pieces, [2, 1, 0])[::-1], strict=True):
        assert torch.equal(one, two)
    states = found.states(pieces, [0])
    assert not torch.equal(found.logits(pieces, [0], states)[0], found.logits(pieces, [0], states)[0])
    found.train(False)
    assert torch.equal(found.logits(pieces, [0], states)[0], found.logits(pieces, [0], states)[0])


@pytest.mark.parametrize("kind", ["bert", "distilbert", "deberta-v2", "modernbert"])
def test_saved_students_give_the_same_predictions_elsewhere(kind: str, tmp_path: Path) -> None:
    """After a little training, with a layer cut off, also through our own tagger."""
    from transformers import AutoModelForTokenClassification

    (tmp_path / "encoder").mkdir()
    found = student(tmp_path, encoder=_encoder(tmp_path / "encoder", kind), layers=3, frozen=1)
    table = toy()
    pieces = encode(table, found.tokenizer, found.positions)
    loop.fit(found, held(found, table, fitting(epochs=1)), fitting(epochs=1))
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():  # large weights, so that predictions are of all kinds
        for parameter in found.module.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.5, generator=draw)
    found.save(tmp_path / "out")
    classes = loop.predict(found, pieces, fitting())
    assert len(set(classes.tolist())) > 2
    spans = scored(table, pieces, classes, found.names).column("spans").to_pylist()
    tagger = HfTagger(Tag(engine="hf", model=str(tmp_path / "out")))
    tagged = tagger.tag([(words, [True] * len(words)) for words in table.column("tokens").to_pylist()])
    expected = [[Span(s["start"], s["end"], s["label"]) for s in each] for each in spans]
    assert [[Span(s.start, s.end, s.label) for s in each] for each in tagged] == expected
    again = AutoModelForTokenClassification.from_pretrained(tmp_path / "out").eval()
    assert again.config.num_hidden_layers == 3
    for name, value in found.module.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    found.save(tmp_path / "half", "bfloat16")
    half = AutoModelForTokenClassification.from_pretrained(tmp_path / "half")
    assert half.dtype == torch.bfloat16


def test_a_classifier_of_the_labels_goes_on_with_its_head(tmp_path: Path) -> None:
    model = random_model(tmp_path / "a")  # its class 0 is B-PER
    found = Student(Model(encoder=model), ["PER"], seed=0, device=CPU)
    assert found.keeps_head and found.names == IOB2
    assert found.other_labels(["PER"]) == sorted({name[2:] for name in IOB2} - {"", "PER"})
    table = toy()
    pieces = encode(table, found.tokenizer, found.positions)
    classes = loop.predict(found, pieces, fitting())
    tagger = HfTagger(Tag(engine="hf", model=model))
    tagged = tagger.tag([(words, [True] * len(words)) for words in table.column("tokens").to_pylist()])
    spans = scored(table, pieces, classes, found.names).column("spans").to_pylist()
    assert [[(s["start"], s["end"], s["label"]) for s in each] for each in spans] == [
        [(s.start, s.end, s.label) for s in each] for each in tagged
    ]
    assert any(tagged)
    nothing = encode(sentences([{"tokens": ["\u200d"], "spans": []}]), found.tokenizer, found.positions)
    assert loop.predict(found, nothing, fitting()).tolist() == [IOB2.index("O")]  # a word without a subword
    # No B-PER among its classes, or other labels: a new head
    for name, classes_of, labels in [("b", XLMR_CONLL03, ["PER"]), ("c", IOB2, ["PER", "ORG"])]:
        other = Student(Model(encoder=random_model(tmp_path / name, names=classes_of)), labels, seed=0, device=CPU)
        assert not other.keeps_head and other.names[:3] == ["O", f"B-{labels[0]}", f"I-{labels[0]}"]


def test_a_new_head_depends_on_the_seed_alone(tmp_path: Path) -> None:
    encoder = tiny(tmp_path, "bert")
    heads = [Student(Model(encoder=encoder), ["PER"], seed=s, device=CPU).module.classifier.weight for s in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])


def test_encoders_that_cannot_be_used(tmp_path: Path) -> None:
    bert = tiny(tmp_path / "bert", "bert")
    for options, said in [
        ({"layers": 5}, r"model.layers is 5, but .* has 4"),
        ({"frozen": 5}, r"model.frozen is 5, but .* has 4 layers"),
    ]:
        with pytest.raises(RecipeError, match=said):
            student(tmp_path, encoder=bert, **options)
    with pytest.raises(RecipeError, match="no single list of layers"):
        student(tmp_path, encoder=tiny(tmp_path / "albert", "albert"), frozen=2)
    with pytest.raises(RecipeError, match="no such folder; give a folder, or a hub id"):
        student(tmp_path, encoder=str(tmp_path / "nowhere"))
    with pytest.raises(RecipeError, match=r"model\.encoder .* cannot be used"):
        student(tmp_path, encoder=tiny(tmp_path / "m2m", "m2m_100"))
    config = tmp_path / "bert" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"intermediate_size": 32}))
    with pytest.raises(RecipeError, match=r"weights are missing, as bert\.encoder\.layer\.0"):
        student(tmp_path, encoder=bert)
    names = tmp_path / "m2m" / "tokenizer_config.json"
    told = {k: v for k, v in json.loads(names.read_text()).items() if k != "pad_token"}
    (tmp_path / "albert" / "tokenizer_config.json").write_text(json.dumps(told))
    with pytest.raises(RecipeError, match="no padding token"):
        student(tmp_path, encoder=str(tmp_path / "albert"))
