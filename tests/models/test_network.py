"""models/network.py: the cut, the tokenizer and the limits of models of many kinds."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_encoders import KINDS, N_LAYERS, POSITIONS, SENTENCES, WIDTH, tiny, word_means

from xner_ray.align.encoder import Encoder
from xner_ray.errors import RecipeError, RetryableError, XnerError
from xner_ray.models import fast_linear


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("bert"), "bert")


@pytest.mark.parametrize("kind", KINDS)
def test_every_hidden_state_is_that_of_the_whole_model(kind: str, tmp_path: Path) -> None:
    model = tiny(tmp_path, kind)
    for layer in range(N_LAYERS + 1):
        encoder = Encoder(model, layer=layer)
        vectors = encoder.encode(SENTENCES).arrays()
        for words, found in zip(SENTENCES, vectors, strict=True):
            assert isinstance(found, np.ndarray)
            assert found.shape == (len(words), WIDTH)
            assert found.dtype == np.float32
            if words:
                np.testing.assert_allclose(found, word_means(model, layer, words), atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "albert"])
def test_layers_after_the_one_in_use_are_gone(kind: str, tmp_path: Path) -> None:
    model = tiny(tmp_path, kind)
    whole = sum(p.numel() for p in Encoder(model, layer=N_LAYERS).network.module.parameters())
    for layer in range(N_LAYERS):
        network = Encoder(model, layer=layer).network
        assert network.is_cut
        lists = [len(m) for m in network.module.modules() if isinstance(m, torch.nn.ModuleList)]
        assert max(layer, 1) in lists
        assert N_LAYERS not in lists
        assert sum(p.numel() for p in network.module.parameters()) < whole


def test_layers_in_use_of_a_model_that_shares_them_stay_right(tmp_path: Path) -> None:
    assert not Encoder(tiny(tmp_path, "albert"), layer=2).network.is_cut


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_every_kind_of_model_bears_the_faster_layers(kind: str, dtype: Any, tmp_path: Path) -> None:
    model = tiny(tmp_path, kind)
    encoder = Encoder(model, layer=2, dtype=dtype)
    assert encoder.precision == dtype
    kinds = {type(module) for module in encoder.network.module.modules()}
    assert torch.nn.Linear not in kinds
    assert (fast_linear.Int8Linear if dtype == "int8" else fast_linear.PackedLinear) in kinds
    for words, found in zip(SENTENCES, encoder.encode(SENTENCES).arrays(), strict=True):
        if words and dtype == "int8":
            np.testing.assert_allclose(found, word_means(model, 2, words), atol=0.2)


def test_a_model_that_does_not_bear_them_keeps_its_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny(tmp_path, "bert")
    for broken in (lambda *_: torch.zeros(3), lambda _, x: x.weight):
        monkeypatch.setattr(fast_linear.PackedLinear, "forward", broken)
        encoder = Encoder(model, layer=2)
        assert encoder.precision == "float32"
        assert fast_linear.PackedLinear not in {type(module) for module in encoder.network.module.modules()}
        assert encoder.network.module.config._attn_implementation == "sdpa"
        (found,) = encoder.encode(SENTENCES[:1]).arrays()
        np.testing.assert_allclose(found, word_means(model, 2, SENTENCES[0]), atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_several_layers_are_averaged(kind: str, tmp_path: Path) -> None:
    model = tiny(tmp_path, kind)
    for layers in ([0, 1], [3, 1], [2, N_LAYERS]):
        for words, found in zip(SENTENCES, Encoder(model, layer=layers).encode(SENTENCES).arrays(), strict=True):
            if words:
                expected = np.mean([word_means(model, layer, words) for layer in layers], axis=0)
                np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta", "bart", "m2m_100"])
def test_positions_are_all_used_and_no_more(kind: str, tmp_path: Path) -> None:
    """The tokenizer states no limit (1e30); XLM-R's 34 positions serve 32 tokens."""
    model = tiny(tmp_path, kind)
    encoder = Encoder(model, layer=2)
    assert encoder.positions == POSITIONS
    fits = ["abc", "de"] * 4 + ["a"]  # 30 subwords and the two special tokens
    (vectors,) = encoder.encode([fits]).arrays()
    assert encoder.tokens == POSITIONS
    np.testing.assert_allclose(vectors, word_means(model, 2, fits), atol=2e-6)
    (longer,) = encoder.encode([[*fits, "abc"]]).arrays()
    assert encoder.tokens > 2 * POSITIONS
    assert longer.any(axis=1).all()


def test_a_model_that_is_none_is_refused(bert: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such folder"):
        Encoder.check(str(tmp_path / "absent"))
    (tmp_path / "README.md").write_text("no model")
    with pytest.raises(RecipeError, match="cannot be used"):
        Encoder.check(str(tmp_path))
    (tmp_path / "config.json").write_text((Path(bert) / "config.json").read_text())
    with pytest.raises(RecipeError, match="it has no weights"):
        Encoder(str(tmp_path))


def test_missing_weights_are_refused(bert: str, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    for path in Path(bert).iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(Path(bert) / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "layer.3" not in name}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(RecipeError, match=r"weights are missing, as encoder.layer.3"):
        Encoder(str(tmp_path))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ESTALE, "Stale file handle"), RetryableError),
        (OSError(errno.EIO, "Input/output error"), RetryableError),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), RetryableError),
        (MemoryError(), RetryableError),
        (OSError("does not appear to have a file named model.safetensors"), RecipeError),
        (RuntimeError("size mismatch for embeddings"), RecipeError),
    ],
)
def test_a_fault_of_the_machine_is_no_fault_of_the_model(
    error: Exception, kind: type[XnerError], bert: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster has other machines."""

    def fails(*_arguments: Any, **_options: Any) -> Any:
        raise error

    monkeypatch.setattr("transformers.AutoModel.from_pretrained", fails)
    with pytest.raises(XnerError, match=type(error).__name__) as caught:
        Encoder(bert)
    assert type(caught.value) is kind


@pytest.mark.parametrize("kind", ["byte_level", "split_then_byte_level", "gemma"])
def test_words_are_not_glued(kind: str, bert: str, tmp_path: Path) -> None:
    """Where the space belongs to the next word, given words get theirs."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((Path(bert) / name).read_bytes())
    space = "▁" if kind == "gemma" else "Ġ"
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<unk>", space, *"abcst"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=kind == "byte_level")
    if kind == "gemma":
        tokenizer.normalizer = normalizers.Replace(" ", space)
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    elif kind == "byte_level":
        tokenizer.pre_tokenizer = byte_level
    else:
        split = pre_tokenizers.Split(Regex(r" ?\p{L}+"), "isolated")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>").save_pretrained(tmp_path)
    encoder = Encoder(str(tmp_path), layer=1)
    encoding = encoder.tokenizer([["cat", "", "a"]], is_split_into_words=True)
    assert encoding.tokens(0) == [space, "c", "a", "t", space, "a"]
    assert encoding.word_ids(0) == [0, 0, 0, 0, 2, 2]
    assert len(encoder.encode([["cat", "a"]]).arrays()[0]) == 2
