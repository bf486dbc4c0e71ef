from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from word_pairs import BATCH, Pair, batch_of, links_of

from xner_ray.errors import Loss
from xner_ray.match.heuristic import project
from xner_ray.recipe.sections import Heuristic

Spans = list[tuple[int, int]]


def spans(entities: Spans, links: Spans, **options: object) -> list[Spans]:
    """Projections of every entity of one pair. links: (target, source), as the golden statements have them."""
    pairs = [Pair(12, 12, entities, [(k, w) for w, k in links])]
    found, unprojected = project(batch_of(pairs), links_of(pairs), **options)  # type: ignore[arg-type]
    result: list[Spans] = [[] for _ in entities]
    for entity, start, end in zip(found.entity.tolist(), found.start.tolist(), found.end.tolist(), strict=True):
        result[entity].append((start, end))
    assert [entity for entity, _ in unprojected] == [entity for entity, own in enumerate(result) if not own]
    return result


def one(words: int, links: Spans, **options: object) -> Spans:
    return spans([(0, words)], links, **options)[0]


def test_golden_01_a_one_to_one_name() -> None:
    assert one(2, [(0, 0), (1, 1), (2, 2)]) == [(0, 2)]


def test_golden_02_a_gap_of_one_word_is_closed() -> None:
    assert one(2, [(0, 0), (2, 1)]) == [(0, 3)]


def test_golden_03_a_gap_of_two_words_is_not() -> None:
    assert one(2, [(0, 0), (3, 1)]) == []
    assert one(2, [(0, 0), (3, 1)], gap=2) == [(0, 4)]
    assert one(2, [(0, 0), (3, 1)], ratio=0.4) == [(0, 1), (3, 4)]


def test_golden_04_one_entity_may_be_projected_twice() -> None:
    assert one(1, [(0, 0), (3, 0)]) == [(0, 1), (3, 4)]


def test_golden_05_four_of_five_words_are_not_enough_five_of_six_are() -> None:
    assert one(5, [(i, i) for i in range(4)]) == []
    assert one(6, [(i, i) for i in range(5)]) == [(0, 5)]


def test_golden_06_two_words_on_one_are_too_few() -> None:
    assert one(2, [(0, 0), (0, 1)]) == []


def test_golden_07_one_word_on_five() -> None:
    assert one(1, [(i, 0) for i in range(5)]) == [(0, 5)]


@pytest.mark.parametrize(
    ("words", "least"),
    [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 5), (7, 6), (8, 7), (9, 8), (10, 9), (11, 9), (12, 10)],
)
def test_golden_08_fewest_target_words(words: int, least: int) -> None:
    assert one(words, [(i, 0) for i in range(least)]) == [(0, least)]
    assert one(words, [(i, 0) for i in range(least - 1)]) == []


def test_a_gap_of_0_merges_nothing_and_no_ratio_keeps_all() -> None:
    assert one(2, [(0, 0), (2, 1)], gap=0) == []
    assert one(5, [(0, 0), (3, 1)], ratio=None) == [(0, 1), (3, 4)]


def test_top_k_keeps_the_longest_then_the_leftmost() -> None:
    links = [(0, 0), (3, 0), (4, 0), (7, 0), (8, 0)]
    assert one(1, links, top_k=1) == [(3, 5)]
    assert one(1, links, top_k=2) == [(3, 5), (7, 9)]
    assert one(1, links, top_k=3) == one(1, links) == [(0, 1), (3, 5), (7, 9)]


def test_only_first_keeps_a_second_mention_apart() -> None:
    mentions = [(0, 0), (1, 1), (3, 0), (4, 1)]
    assert one(2, mentions) == [(0, 5)]
    assert one(2, mentions, only_first=True) == [(0, 2), (3, 5)]
    assert one(2, [(0, 0), (2, 1)], only_first=True) == [(0, 3)]


A, B = (0, 3), (3, 5)  # a long entity and a short one


def test_later_entities_overwrite_and_leave_no_orphan() -> None:
    inner = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (2, 3), (3, 4)]
    assert spans([A, B], inner) == [[(0, 2)], [(2, 4)]]  # the reference leaves I-A on word 4
    assert spans([A, B], inner, order="longest") == [[(0, 2)], [(2, 4)]]
    assert spans([A, B], inner, order="shortest") == [[(0, 5)], []]
    first_word = [(0, 0), (1, 1), (2, 2), (0, 3), (1, 4)]
    assert spans([A, B], first_word) == [[], [(0, 2)]]


def test_what_overwrites_may_be_overwritten_itself() -> None:
    links = [(0, 0), (1, 0), (2, 0), (3, 0), (2, 1), (3, 1), (4, 1), (2, 2)]
    assert spans([(0, 1), (1, 2), (2, 3)], links) == [[(0, 2)], [], [(2, 3)]]


def test_first_come_skips_a_run_that_touches_a_labelled_word() -> None:
    links = [(0, 0), (1, 1), (2, 2), (2, 3), (3, 4), (6, 3), (7, 4)]
    assert spans([A, B], links, collision="first") == [[(0, 3)], [(6, 8)]]
    assert spans([A, B], links, collision="first", order="shortest") == [[], [(2, 4), (6, 8)]]
    assert spans([A, B], links, collision="first", order="longest") == [[(0, 3)], [(6, 8)]]


def test_the_longest_run_wins_then_the_order() -> None:
    longer_second = [(0, 0), (1, 1), (2, 2), (2, 3), (3, 3), (4, 4), (5, 4)]
    assert spans([A, B], longer_second, collision="longest") == [[], [(2, 6)]]
    tie = [(0, 0), (1, 1), (2, 2), (2, 3), (3, 3), (4, 4)]
    assert spans([A, B], tie, collision="longest") == [[(0, 3)], []]
    assert spans([A, B], tie, collision="longest", order="shortest") == [[], [(2, 5)]]


def test_a_skipped_run_blocks_nobody() -> None:
    chain = [(0, 0), (1, 0), (1, 1), (2, 1), (2, 2), (3, 2)]
    entities = [(0, 1), (1, 2), (2, 3)]
    assert spans(entities, chain, collision="first") == [[(0, 2)], [], [(2, 4)]]


def test_every_entity_without_a_place_has_a_reason() -> None:
    links = [(0, 0), (0, 1), (1, 2), (1, 3)]
    pairs = [Pair(6, 3, [(0, 1), (1, 2), (2, 4), (4, 6)], [(k, w) for w, k in links])]
    found, unprojected = project(batch_of(pairs), links_of(pairs))
    assert found.entity.tolist() == [1]
    assert unprojected == [(0, Loss.OVERLAP), (2, Loss.NO_CANDIDATE), (3, Loss.NO_CANDIDATE)]


SETTINGS = st.builds(
    Heuristic,
    gap=st.integers(0, 2),
    ratio=st.sampled_from([None, 0.5, 0.8, 1.0]),
    top_k=st.sampled_from([None, 1, 2]),
    only_first=st.booleans(),
    order=st.sampled_from(["given", "shortest", "longest"]),
    collision=st.sampled_from(["last", "first", "longest"]),
)


def by_definition(pair: Pair, how: Heuristic) -> list[Spans]:
    """One pair, word by word: runs, then labels painted in order."""
    runs: list[tuple[int, int, int]] = []
    for entity, (first, last) in enumerate(pair.entities):
        linked = sorted({w for k, w in pair.links if first <= k < last})
        own: list[list[int]] = []
        for word in linked:
            near = own and word - own[-1][1] <= how.gap
            starts_again = how.only_first and (first, word) in pair.links
            if own and (word == own[-1][1] or (near and not starts_again)):
                own[-1][1] = word + 1
            else:
                own.append([word, word + 1])
        own = [r for r in own if how.ratio is None or (r[1] - r[0]) / (last - first) > how.ratio]
        own = sorted(own, key=lambda r: (r[0] - r[1], r[0]))[: how.top_k]
        runs += [(entity, *sorted(r)) for r in own]  # type: ignore[misc]
    sign = {"given": 0, "shortest": 1, "longest": -1}[how.order]
    sizes = [end - start for start, end in pair.entities]
    runs.sort(key=lambda r: (sign * sizes[r[0]], r[0], r[1]))
    if how.collision == "longest":
        runs.sort(key=lambda r: r[1] - r[2])
    label: dict[int, int] = {}
    for index, (_, start, end) in enumerate(runs):
        if how.collision == "last" or not any(word in label for word in range(start, end)):
            label |= dict.fromkeys(range(start, end), index)
    result: list[Spans] = [[] for _ in pair.entities]
    for index, (entity, start, end) in enumerate(runs):
        kept = start
        while kept < end and label.get(kept) == index:
            kept += 1
        if kept > start:
            result[entity].append((start, kept))
    return [sorted(own) for own in result]


@settings(max_examples=600)
@given(BATCH, SETTINGS)
def test_a_batch_equals_the_definition_pair_by_pair(pairs: list[Pair], how: Heuristic) -> None:
    """Hence, too, a pair's projections do not depend on its batch (method.md 7, statement 31)."""
    batch = batch_of(pairs)
    found, unprojected = project(batch, links_of(pairs), **how.model_dump())
    expected = [own for pair in pairs for own in by_definition(pair, how)]
    columns = (found.entity.tolist(), found.start.tolist(), found.end.tolist())
    assert list(zip(*columns, strict=True)) == [(e, *span) for e, own in enumerate(expected) for span in own]
    assert [entity for entity, _ in unprojected] == [entity for entity, own in enumerate(expected) if not own]


@given(BATCH, SETTINGS)
def test_projections_never_overlap(pairs: list[Pair], how: Heuristic) -> None:
    batch = batch_of(pairs)
    found, _ = project(batch, links_of(pairs), **how.model_dump())
    covered = np.zeros(int(batch.target_base[-1]), dtype=np.int64)
    for entity, start, end in zip(found.entity, found.start, found.end, strict=True):
        assert 0 <= start < end <= batch.words[entity]
        base = batch.target_base[batch.row[entity]]
        covered[base + start : base + end] += 1
    assert covered.max(initial=0) <= 1


@pytest.mark.parametrize("pairs", [[], [Pair(0, 0, [], [])], [Pair(2, 0, [(0, 1)], [])], [Pair(2, 3, [], [(0, 0)])]])
def test_nothing_in_nothing_out(pairs: list[Pair]) -> None:
    """method.md 7, statement 18."""
    for collision, top_k, only_first in product(("last", "first", "longest"), (None, 1), (False, True)):
        how = Heuristic(collision=collision, top_k=top_k, only_first=only_first)  # type: ignore[arg-type]
        found, unprojected = project(batch_of(pairs), links_of(pairs), **how.model_dump())
        assert not len(found)
        n_entities = sum(len(pair.entities) for pair in pairs)
        assert unprojected == [(entity, Loss.NO_CANDIDATE) for entity in range(n_entities)]


def test_the_defaults_are_the_papers() -> None:
    papers = {"gap": 1, "ratio": 0.8, "top_k": None, "only_first": False, "order": "given", "collision": "last"}
    assert Heuristic().model_dump() == papers == project.__kwdefaults__


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gap": -1}, "gap\n.*greater than or equal to 0"),
        ({"ratio": -0.1}, "ratio\n.*greater than or equal to 0"),
        ({"ratio": float("nan")}, "ratio\n.*a finite number"),
        ({"top_k": 0}, "top_k\n.*greater than or equal to 1"),
        ({"order": "random"}, "order\n.*'given', 'shortest' or 'longest'"),
        ({"collision": "union"}, "collision\n.*'last', 'first' or 'longest'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Heuristic(**options)  # type: ignore[arg-type]
