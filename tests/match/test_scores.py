import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from word_pairs import BATCH, Pair, batch_of, counts_of, links_of

from xner_ray.data.row import SCALE
from xner_ray.errors import RecipeError
from xner_ray.match.batch import EntityBatch
from xner_ray.match.candidates import Candidates, ngrams, windows
from xner_ray.match.scores import Scored, alignment, fuse, mass_inside, soft, tagger, threshold

Ranges = list[tuple[int, int]]
Cells = list[tuple[int, int]]


def at(ranges: Ranges, entity: int = 0) -> Candidates:
    start, end = np.array(ranges, dtype=np.int32).T
    return Candidates(np.full(len(ranges), entity, dtype=np.int32), start, end)


def score(length: int, links: Cells, ranges: Ranges) -> list[float]:
    """Score an entity of the first `length` source words, in the second of two pairs; links are (source, target)."""
    pairs = [Pair(1, 2, [(0, 1)], [(0, 0)]), Pair(12, 12, [(0, length)], links)]
    return alignment(batch_of(pairs), at(ranges, entity=1), counts_of(pairs)).tolist()


DENSE = [(i, j) for i in (0, 1) for j in (0, 1)]


def test_golden_09_a_merged_gap_scores_more() -> None:
    assert score(2, [(0, 0), (1, 2)], [(0, 3), (0, 1)]) == pytest.approx([0.8, 2 / 3])


def test_golden_10_a_hull_over_two_words_ties_with_the_single_word() -> None:
    hull, word = score(2, [(0, 0), (1, 3)], [(0, 4), (0, 1)])
    assert hull == word == pytest.approx(2 / 3)


def test_golden_11_two_words_on_one() -> None:
    assert score(2, [(0, 0), (1, 0)], [(0, 1)]) == pytest.approx([4 / 3])


def test_golden_12_four_of_five_words() -> None:
    assert score(5, [(i, i) for i in range(4)], [(0, 4)]) == pytest.approx([8 / 9])


def test_golden_13_one_word_on_two_apart_is_a_tie() -> None:
    assert score(1, [(0, 0), (0, 2)], [(0, 1), (0, 3)]) == [1.0, 1.0]


def test_golden_14_one_word_on_two() -> None:
    assert score(1, [(0, 0), (0, 1)], [(0, 2)]) == pytest.approx([4 / 3])


def test_golden_15_a_stray_word_counts_across_one_word_but_not_two() -> None:
    near, run = score(3, [(0, 0), (1, 1), (2, 3)], [(0, 4), (0, 2)])
    assert near > run
    far, run = score(3, [(0, 0), (1, 1), (2, 4)], [(0, 5), (0, 2)])
    assert far < run


@pytest.mark.parametrize(
    ("links", "expected"), [([(0, 0), (1, 1)], [2 / 3, 1, 2 / 3, 0.8]), (DENSE, [4 / 3, 2, 4 / 3, 1.6])]
)
def test_golden_19_score_matrix(links: Cells, expected: list[float]) -> None:
    assert score(2, links, [(0, 1), (0, 2), (1, 2), (0, 3)]) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), max_size=14),
    st.integers(1, 4),
    st.integers(0, 5),
    st.integers(1, 2),
)
def test_golden_20_a_word_without_a_link_lowers_the_score(links: Cells, length: int, start: int, words: int) -> None:
    end = start + words
    kept = [(k, w) for k, w in links if w != end]
    shorter, longer = score(length, kept, [(start, end), (start, end + 1)])
    assert longer < shorter if shorter > 0 else longer == 0


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 3), st.integers(0, 6))
def test_golden_21_the_hull_beats_the_longer_run_across_a_small_gap(a: int, b: int, more: int, gap: int) -> None:
    """Runs of a >= b words, g words between, an entity of s words: the hull wins iff g < s b / a."""
    a, b = max(a, b), min(a, b)
    length = a + b + more
    links = [(i, i) for i in range(a)] + [(a + i, a + gap + i) for i in range(b)]
    run, hull = score(length, links, [(0, a), (0, a + gap + b)])
    assert (hull > run) == (gap * a < length * b)
    assert math.isclose(hull, run) == (gap * a == length * b)


@given(BATCH)
def test_prefix_sums_equal_the_definition(pairs: list[Pair]) -> None:
    batch, counts = batch_of(pairs), counts_of(pairs)
    found = ngrams(batch)
    values = zip(found.entity, found.start, found.end, alignment(batch, found, counts), strict=True)
    for entity, start, end, value in values:
        first, last = batch.start[entity], batch.end[entity]
        links = set(pairs[batch.row[entity]].links)
        linked = sum(first <= k < last and start <= w < end for k, w in links)
        assert value == pytest.approx(2 * linked / (last - first + end - start))


@given(BATCH, st.floats(0, 1), st.floats(0, 1))
def test_soft_is_a_dice_coefficient(pairs: list[Pair], forward: float, backward: float) -> None:
    batch, links = batch_of(pairs), links_of(pairs)
    found = ngrams(batch)
    one = np.ones(len(links))
    # Probabilities, as a softmax leaves them: at most 1 per source word forward, per target word backward.
    base = np.cumsum([0] + [p.n_source for p in pairs])[links.row] + links.source
    top = np.cumsum([0] + [p.n_target for p in pairs])[links.row] + links.target
    per_source = np.bincount(base)[base] if len(links) else one
    per_target = np.bincount(top)[top] if len(links) else one
    masses = [np.rint(SCALE * v).astype(np.int64) for v in (forward / per_source, backward / per_target)]
    cells = [batch.spread(links, mass) for mass in masses]
    values = soft(batch, found, cells[0] + cells[1])
    assert ((values >= 0) & (values <= 1)).all()
    blocks = mass_inside(batch, found, cells[0]) + mass_inside(batch, found, cells[1])
    lengths = batch.length[found.entity] + found.end - found.start
    assert values == pytest.approx(np.minimum(1, blocks / SCALE / lengths))


def test_soft_of_certain_links_equals_the_alignment_score_and_a_dense_block_is_1() -> None:
    pairs = [Pair(2, 3, [(0, 2)], [(0, 0), (1, 2)])]
    batch, counts = batch_of(pairs), counts_of(pairs)
    found = ngrams(batch)
    assert (soft(batch, found, 2 * SCALE * counts) == alignment(batch, found, counts)).all()
    pairs = [Pair(2, 2, [(0, 2)], DENSE)]
    half = SCALE // 2 * counts_of(pairs)
    assert soft(batch_of(pairs), at([(0, 1), (0, 2)]), 2 * half).tolist() == pytest.approx([2 / 3, 1])


def test_soft_stays_below_1_where_rounded_probabilities_do_not() -> None:
    pairs = [Pair(1, 6, [(0, 1)], [(0, w) for w in range(6)])]
    sixth = round(SCALE / 6) * counts_of(pairs)
    assert sixth.sum() > SCALE
    assert soft(batch_of(pairs), at([(0, 6)]), sixth + SCALE * counts_of(pairs)).tolist() == [1.0]


GOLDEN_28 = np.array([[0.1, 0.9, 0.0], [0.2, 0.0, 0.8], [1.0, 0.0, 0.0]])


def golden_28(ranges: Ranges, **options: object) -> list[float]:
    batch = batch_of([Pair(1, 3, [(0, 1)], [])])
    return tagger(batch, at(ranges), GOLDEN_28, np.array([0]), **options).tolist()  # type: ignore[arg-type]


def test_golden_28_tagger_score() -> None:
    assert golden_28([(0, 1), (0, 2)], alpha=1.0) == pytest.approx([0.9, 0.85])
    for reward in ("always", "exact"):
        assert golden_28([(0, 1), (0, 2)], reward=reward) == pytest.approx([0.9, 0.9775])
    assert golden_28([(0, 3)], reward="always") == pytest.approx([0.749], abs=5e-4)
    assert golden_28([(0, 3)], reward="exact") == pytest.approx([0.567], abs=5e-4)
    for alpha, longer_wins in ((1.0588, False), (1.0589, True)):
        one, two = golden_28([(0, 1), (0, 2)], alpha=alpha)
        assert (two > one) == longer_wins


SAFE_ALPHA = {1: 1.5, 2: 5 / 3, 3: 1.75, 4: 1.8}
"""(2 L + 1) / (L + 1) by the number of classes L (method.md 7, statement 29)."""


@pytest.mark.parametrize("n_classes", SAFE_ALPHA)
def test_golden_29_below_the_safe_alpha_a_sure_first_word_beats_the_name(n_classes: int) -> None:
    """The second word's most probable tag is barely that: from this alpha on the name wins all the same."""
    columns = 2 * n_classes + 1
    barely = 1 / columns + 5e-4
    probabilities = np.full((2, columns), (1 - barely) / (columns - 1))
    probabilities[0], probabilities[:, 1:3] = 0.0, [[1.0, 0.0], [probabilities[1, 1], barely]]
    batch, spans = batch_of([Pair(1, 2, [(0, 1)], [])]), at([(0, 1), (0, 2)])
    for alpha, wins in ((SAFE_ALPHA[n_classes] - 5e-3, False), (SAFE_ALPHA[n_classes], True)):
        one, two = tagger(batch, spans, probabilities, np.array([0]), alpha=alpha)
        assert (two > one) == wins


@given(st.integers(1, 4), st.integers(1, 6), st.data())
def test_above_the_safe_alpha_no_part_beats_a_name(n_classes: int, n_words: int, data: st.DataObject) -> None:
    """The worst case of the proof: a sure start, then best tags that barely are."""
    columns = 2 * n_classes + 1
    least = 1 / columns
    best = [data.draw(st.floats(least + 0.01, 1)) for _ in range(n_words)]
    probabilities = np.array([[(1 - p) / (columns - 1)] * columns for p in best])
    probabilities[np.arange(n_words), [1] + [2] * (n_words - 1)] = best
    batch = batch_of([Pair(1, n_words, [(0, 1)], [])])
    found = ngrams(batch)
    whole = (found.start == 0) & (found.end == n_words)
    for reward in ("exact", "always"):
        alpha = SAFE_ALPHA[n_classes] + 1e-3
        values = tagger(batch, found, probabilities, np.array([0]), alpha=alpha, reward=reward)  # type: ignore[arg-type]
        assert values[~whole].max(initial=0) < values[whole][0]


def test_always_rewarding_length_prefers_18_words_to_the_name() -> None:
    """Why `reward="exact"` is the default."""
    probabilities = np.zeros((30, 3))
    probabilities[:, 0] = 1
    probabilities[:2] = GOLDEN_28[:2]
    batch = batch_of([Pair(1, 30, [(0, 1)], [])])
    found = at([(0, 2), (0, 17), (0, 18), (0, 30)])
    name, n17, n18, n30 = tagger(batch, found, probabilities, np.array([0]), reward="always")
    assert n17 < name < n18 < n30
    assert tagger(batch, found, probabilities, np.array([0])).argmax() == 0


def tagger_by_definition(p: np.ndarray, start: int, end: int, label: int, alpha: float, reward: str) -> float:
    p = np.rint(p * SCALE) / SCALE
    begin, inside = 2 * label + 1, 2 * label + 2
    mean = (p[start, begin] + p[start + 1 : end, inside].sum()) / (end - start)
    reads = p[start:end].argmax(axis=1).tolist() == [begin] + [inside] * (end - start - 1)
    return float(mean * alpha ** (end - start - 1) if reads or reward == "always" else mean)


@given(BATCH, st.integers(1, 3), st.sampled_from(["exact", "always"]), st.integers(0, 999), st.floats(1, 2))
def test_tagger_equals_its_definition(pairs: list[Pair], n_classes: int, reward: str, seed: int, alpha: float) -> None:
    batch, random = batch_of(pairs), np.random.default_rng(seed)
    n_words = int(batch.target_base[-1])
    probabilities = random.dirichlet(np.full(2 * n_classes + 1, 0.3), n_words + 1)[:n_words]
    classes = random.integers(-1, n_classes, len(batch))
    found = ngrams(batch)
    values = tagger(batch, found, probabilities, classes, alpha=alpha, reward=reward)  # type: ignore[arg-type]
    spans = tagger(batch, found, probabilities, None, alpha=alpha, reward=reward)  # type: ignore[arg-type]
    for entity, start, end, value, free in zip(found.entity, found.start, found.end, values, spans, strict=True):
        base = batch.target_base[batch.row[entity]]
        p = probabilities[base : base + batch.words[entity]]
        each = [tagger_by_definition(p, start, end, label, alpha, reward) for label in range(n_classes)]
        assert value == pytest.approx(each[classes[entity]] if classes[entity] >= 0 else 0)
        assert free == pytest.approx(max(each))


def test_half_precision_probabilities_keep_their_digits() -> None:
    batch = batch_of([Pair(1, 3, [(0, 1)], [])])
    values = tagger(batch, at([(0, 1)]), GOLDEN_28.astype(np.float16), np.array([0]))
    assert values.tolist() == pytest.approx([0.9], abs=3e-4)


def test_bad_tagger_input_is_refused() -> None:
    batch, found = batch_of([Pair(1, 3, [(0, 1)], [])]), at([(0, 2)])
    one = np.array([0])
    for shape in [(2, 3), (3, 4), (3, 1), (3,)]:
        with pytest.raises(ValueError, match=r"probabilities have the shape .*; allowed: \(3, 2 L \+ 1\)"):
            tagger(batch, found, np.zeros(shape), one)
    for value in (-0.1, 1.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="not a number from 0 to 1"):
            tagger(batch, found, np.full((3, 3), value), one)
    for classes in ([1], [-2]):
        with pytest.raises(ValueError, match="allowed: -1 to 0"):
            tagger(batch, found, GOLDEN_28, np.array(classes))
    with pytest.raises(ValueError, match="allowed: one per entity"):
        tagger(batch, found, GOLDEN_28, np.array([0, 0]))
    for alpha in (0.9, math.nan, math.inf):
        with pytest.raises(ValueError, match="alpha is"):
            tagger(batch, found, GOLDEN_28, one, alpha=alpha)
    with pytest.raises(ValueError, match="reward is 'never'"):
        tagger(batch, found, GOLDEN_28, one, reward="never")  # type: ignore[arg-type]


def test_fusion_adds_weighted_scores_rounds_and_drops_what_is_not_positive() -> None:
    found = at([(0, 1), (0, 2), (1, 2)])
    scores = {"align": np.array([2 / 3, 0.0, 0.0]), "user": np.array([0.5, 0.00004, 1.0])}
    fused = fuse(found, scores, {"align": 1.0, "user": 0.5})
    assert fused.score.tolist() == [9167, 5000]
    assert list(zip(fused.start.tolist(), fused.end.tolist(), strict=True)) == [(0, 1), (1, 2)]
    assert fuse(found, scores, {"align": 1.0}).score.tolist() == [6667]
    assert not len(fuse(found, scores, {}))


def test_negative_scores_count_against_the_others() -> None:
    found = at([(0, 1), (0, 2), (1, 2)])
    scores = {"align": np.array([1.0, 0.5, 0.5]), "edges": np.array([-0.25, -0.5, -0.75])}
    assert fuse(found, scores, {"align": 1.0, "edges": 1.0}).score.tolist() == [7500]
    assert fuse(found, scores, {"align": 1.0, "edges": 0.0}).score.tolist() == [10_000, 5000, 5000]


def test_thresholds_come_before_weights_and_the_filter_after() -> None:
    found = at([(0, 1), (0, 2), (1, 2)])
    scores = {"align": np.array([0.5, 0.5, 0.0]), "ner": np.array([0.05, 0.06, 0.06])}
    weights = {"align": 1.0, "ner": 10.0}
    assert fuse(found, scores, weights, {"ner": 0.05}).score.tolist() == [5000, 11_000, 6000]
    assert fuse(found, scores, weights, {"ner": 0.05}, min_score=0.6).score.tolist() == [11_000]
    assert fuse(found, scores, {"align": 1.0}, {"ner": 0.05}).score.tolist() == [5000, 5000]
    assert threshold(np.array([-1.0, 0.1, 0.2]), 0.1).tolist() == [0.0, 0.0, 0.2]


@pytest.mark.parametrize("names", [list(names) for names in permutations("abc")])
def test_fusion_does_not_depend_on_the_order_of_names(names: list[str]) -> None:
    """Added in the order a, b, c these make 1.63355, which rounds up or down with the last bit."""
    values = {"a": 0.5599, "b": 0.9349, "c": 0.13875}
    scores = {name: np.array([values[name]]) for name in names}
    rounded = [fuse(at([(0, 1)]), scores, dict.fromkeys(order, 1.0)).score[0] for order in (names, "abc")]
    assert rounded[0] == rounded[1]


def test_bad_weights_and_scores_are_refused() -> None:
    one = at([(0, 1)])
    with pytest.raises(RecipeError, match=r"match\.scores\.algn: no such score; did you mean 'align'"):
        fuse(one, {"align": np.ones(1)}, {"algn": 1.0})
    with pytest.raises(RecipeError, match=r"match\.thresholds\.nre: no such score; did you mean 'ner'"):
        fuse(one, {"ner": np.ones(1)}, {"ner": 1.0}, {"nre": 0.1})
    for number in (-1.0, math.nan):
        with pytest.raises(RecipeError, match=r"match\.scores\.align is .*; allowed: 0 or more"):
            fuse(one, {"align": np.ones(1)}, {"align": number})
        with pytest.raises(RecipeError, match=r"match\.thresholds\.align is .*; allowed: 0 or more"):
            fuse(one, {"align": np.ones(1)}, {"align": 1.0}, {"align": number})
        with pytest.raises(RecipeError, match=r"match\.min_score is .*; allowed: 0 or more"):
            fuse(one, {"align": np.ones(1)}, {"align": 1.0}, min_score=number)
    for value in (math.nan, math.inf, -math.inf, 1e9):
        for thresholds in ({}, {"align": 0.5}):
            if value > 0 or not thresholds or math.isnan(value):
                with pytest.raises(ValueError, match="not finite or above"):
                    fuse(one, {"align": np.array([value])}, {"align": 1.0}, thresholds)
    with pytest.raises(ValueError, match="not finite or above"):
        fuse(one, {"align": np.array([math.inf])}, {"align": 0.0})
    with pytest.raises(ValueError, match=r"score align has the shape \(2,\); allowed: \(1,\)"):
        fuse(one, {"align": np.ones(2)}, {"align": 1.0})
    entity = np.zeros(1, dtype=np.int32)
    with pytest.raises(ValueError, match="allowed: 1 to"):
        Scored(entity, entity, entity + 1, np.zeros(1, dtype=np.int64))
    with pytest.raises(ValueError, match="differ in length"):
        Scored(entity, entity, entity, np.ones(2, dtype=np.int64))
    with pytest.raises(ValueError, match=r"mass has the shape \(3,\); allowed: one value by cell, \(2,\)"):
        alignment(batch_of([Pair(1, 2, [(0, 1)], [])]), one, np.ones(3, dtype=np.int64))


@pytest.mark.parametrize("pairs", [[], [Pair(0, 0, [], [])], [Pair(2, 0, [(0, 1)], [])], [Pair(2, 4, [(0, 1)], [])]])
def test_empty_input_gives_no_cells(pairs: list[Pair]) -> None:
    """method.md 7, statement 18."""
    batch, counts = batch_of(pairs), counts_of(pairs)
    probabilities, classes = np.zeros((int(batch.target_base[-1]), 3)), np.zeros(len(batch), dtype=np.int64)
    for found in (windows(batch, counts), ngrams(batch)):
        scores = {
            "align": alignment(batch, found, counts),
            "soft": soft(batch, found, 2 * counts),
            "ner": tagger(batch, found, probabilities, classes),
            "spans": tagger(batch, found, probabilities, None),
        }
        assert len(fuse(found, scores, dict.fromkeys(scores, 1.0))) == 0


@given(BATCH)
def test_a_score_does_not_depend_on_the_batch(pairs: list[Pair]) -> None:
    """method.md 7, statement 31."""

    def all_of(pairs: list[Pair]) -> list[float]:
        batch, counts = batch_of(pairs), counts_of(pairs)
        found = windows(batch, counts)
        return [*alignment(batch, found, counts).tolist(), *soft(batch, found, 3334 * counts).tolist()]

    alone = [all_of([each]) for each in pairs]
    halves = [values[: len(values) // 2] for values in alone], [values[len(values) // 2 :] for values in alone]
    assert all_of(pairs) == [value for half in halves for values in half for value in values]


def test_a_long_sentence_fits() -> None:
    entities = [(10 * i, 10 * i + 3) for i in range(50)]
    pairs = [Pair(1000, 1000, entities, [(i, i) for i in range(1000)])]
    batch: EntityBatch = batch_of(pairs)
    counts = counts_of(pairs)
    found = ngrams(batch)
    cells = fuse(found, {"align": alignment(batch, found, counts)}, {"align": 1.0})
    assert len(found) == 50 * 29_565
    assert cells.score.max() == SCALE and set(cells.entity.tolist()) == set(range(50))
