import itertools
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from made_rows import table_from_rows

from xner_ray.data.links import METHODS
from xner_ray.data.row import row_schema
from xner_ray.errors import RecipeError
from xner_ray.match import projection
from xner_ray.match import rows as rows_of
from xner_ray.match.prior import Prior, count, merge
from xner_ray.recipe.sections import Match

ITERMAX = 1 << METHODS.index("itermax")


def _link(source: int, target: int, forward: float = 1.0, backward: float = 1.0, hard: bool = True) -> dict[str, Any]:
    bits = ITERMAX if hard else 0
    return {
        "source": source,
        "target": target,
        "forward": forward,
        "backward": backward,
        "cosine": 0.9,
        "methods": bits,
    }


def _span(start: int, end: int, label: str = "PER") -> dict[str, Any]:
    return {"start": start, "end": end, "label": label, "score": 1.0}


def _row(spans: list[dict[str, Any]], links: list[dict[str, Any]], n: int = 4, **cells: Any) -> dict[str, Any]:
    tokens = {"source_tokens": [f"s{i}" for i in range(n)], "tokens": [f"t{i}" for i in range(n)]}
    return {**tokens, "source_spans": spans, "links": links, **cells}


def _table(*rows: dict[str, Any]) -> pa.Table:
    return table_from_rows([{"row": number, **row} for number, row in enumerate(rows)], row_schema())


def _projected(table: pa.Table, method: str = "itermax", prior: Prior | None = None, **settings: Any) -> list[Any]:
    match = Match(**{"confidence": "none", **settings})
    return projection.project(table, match, method, prior).select(projection.WRITES).to_pylist()


def _chosen(row: dict[str, Any]) -> list[tuple[int, int, str, float, int]]:
    return [(s["start"], s["end"], s["label"], round(s["score"], 4), s["source"]) for s in row["spans"]]


def _random_rows(n_rows: int) -> pa.Table:
    random = np.random.default_rng(0)
    rows = []
    for _ in range(n_rows):
        n = int(random.integers(1, 12))
        cuts = sorted(random.choice(n + 1, size=min(n + 1, 4), replace=False).tolist())
        spans = [_span(a, b, label) for a, b, label in zip(cuts, cuts[1:], ["PER", "LOC", "ORG"], strict=False)]
        cells = sorted({(int(random.integers(n)), int(random.integers(n))) for _ in range(2 * n)})
        links = [_link(s, t, *np.round(random.random(2), 4), hard=bool(random.random() < 0.5)) for s, t in cells]
        extra = {"status": "rejected", "reason": "too_long"} if random.random() < 0.1 else {}
        rows.append({**_row(spans, links, n), **extra})
    return _table(*rows)


def _prior_of(table: pa.Table) -> Prior:
    rows = rows_of.read(table)
    return Prior(merge([count(rows.source_tokens, rows.tokens, rows.earlier)]))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"candidates": "ngram"},
        {"candidates": "runs", "scores": {"align": 1.0}},
        {"solver": "greedy", "scores": {"align": 0.5, "soft": 2.0}},
        {"solver": "heuristic"},
        {"per_entity": "=1", "min_score": 0.0},
    ],
)
def test_golden_31_projecting_is_a_pure_function_of_one_row(settings: dict[str, Any]) -> None:
    table = _random_rows(60)
    first = projection.project(table, Match(**settings), "itermax", None)
    prior = _prior_of(first)
    for prior_or_none, rows in ((None, table), (prior, first)):
        whole = _projected(rows, prior=prior_or_none, **settings)
        alone = [_projected(rows.slice(at, 1), prior=prior_or_none, **settings)[0] for at in range(rows.num_rows)]
        assert whole == alone
        order = np.random.default_rng(1).permutation(rows.num_rows)
        assert _projected(rows.take(pa.array(order)), prior=prior_or_none, **settings) == [whole[at] for at in order]


def test_rejected_rows_stay_as_they_are_and_every_other_row_is_accounted_for() -> None:
    table = _random_rows(60)
    result = projection.project(table, Match(), "itermax", None)
    assert result.schema == table.schema
    for before, after in zip(table.to_pylist(), result.to_pylist(), strict=True):
        if before["status"] == "rejected":
            assert after == before
        else:
            placed = [s["source"] for s in after["spans"]] + [u["source"] for u in after["unprojected"]]
            assert sorted(placed) == list(range(len(before["source_spans"])))
            assert after["complete"] == (not after["unprojected"])
            ends = [(s["start"], s["end"]) for s in after["spans"]]
            assert all(left[1] <= right[0] for left, right in itertools.pairwise(ends))


def test_soft_dice_is_the_score_and_says_how_sure() -> None:
    row = _row([_span(0, 2)], [_link(0, 1, 0.8, 0.9), _link(1, 2, 0.6, 0.5), _link(1, 3, 0.4, 0.0)])
    result = _projected(_table(row))[0]
    assert _chosen(result) == [(1, 3, "PER", 0.7, 0)]  # (0.8 + 0.9 + 0.6 + 0.5) / 4
    assert result["objective"] == 0.7


def test_an_entity_below_min_score_stays_unprojected() -> None:
    row = _row([_span(0, 1), _span(1, 2)], [_link(0, 0, 0.4, 0.4), _link(1, 1, 0.5, 0.5)])
    result = _projected(_table(row), min_score=0.45)[0]
    assert _chosen(result) == [(1, 2, "PER", 0.5, 1)]
    assert result["unprojected"] == [{"source": 0, "reason": "low_score"}]
    assert _chosen(_projected(_table(row), min_score=0.0)[0])[0][:2] == (0, 1)


def test_hard_links_count_for_the_align_score_alone() -> None:
    row = _row([_span(0, 1)], [_link(0, 0, 0.5, 0.5, hard=False), _link(0, 1, 0.5, 0.5)])
    assert _chosen(_projected(_table(row), scores={"align": 1.0})[0]) == [(1, 2, "PER", 1.0, 0)]
    assert _projected(_table(row), method="argmax", scores={"align": 1.0})[0]["spans"] == []


def test_scores_are_shares_of_the_most_that_the_weights_allow() -> None:
    row = _row([_span(0, 1)], [_link(0, 0, 0.9, 0.7)])
    assert _chosen(_projected(_table(row), scores={"soft": 3.0})[0])[0][3] == 0.8
    assert _chosen(_projected(_table(row), scores={"soft": 1.0, "align": 1.0})[0])[0][3] == 0.9


def test_a_prior_moves_an_edge() -> None:
    """`de` stands before names everywhere else, so it is no part of this one, though it is weakly linked to it."""
    others = [
        {
            "source_tokens": ["x", "Bob"],
            "tokens": ["de", "Bob"],
            "source_spans": [_span(1, 2)],
            "links": [_link(1, 1)],
        }
        for _ in range(60)
    ]
    words = {"source_tokens": ["the", "Rhine"], "tokens": ["de", "Rin"]}
    row = {**words, "source_spans": [_span(0, 2)], "links": [_link(0, 0, 0.4, 0.4), _link(1, 1)]}
    first = projection.project(_table(row, *others), Match(), "itermax", None)
    assert _chosen(first.to_pylist()[0])[0][:2] == (0, 2)
    assert _chosen(_projected(first, prior=_prior_of(first))[0])[0][:2] == (1, 2)


def test_spans_that_reading_set_aside_take_no_part() -> None:
    row = _row(
        [_span(0, 2), _span(1, 2), _span(2, 3)],
        [_link(0, 0), _link(1, 1), _link(2, 2)],
        unprojected=[{"source": 1, "reason": "nested"}],
    )
    result = _projected(_table(row))[0]
    assert [cell[4] for cell in _chosen(result)] == [0, 2]
    assert result["unprojected"] == [{"source": 1, "reason": "nested"}]
    assert not result["complete"]


def test_empty_rows_and_empty_tables() -> None:
    assert _projected(_table().slice(0, 0)) == []
    result = _projected(_table(_row([], []), _row([_span(0, 1)], [])))
    assert (result[0]["spans"], result[0]["complete"], result[0]["solver"]) == ([], True, "none")
    assert result[1]["unprojected"] == [{"source": 0, "reason": "no_candidate"}]


def test_heuristic_projects_an_entity_twice() -> None:
    row = _row([_span(0, 1)], [_link(0, 0), _link(0, 3)])
    result = _projected(_table(row), solver="heuristic")[0]
    assert [cell[:2] for cell in _chosen(result)] == [(0, 1), (3, 4)]
    assert (result["solver"], result["optimal"], result["objective"]) == ("heuristic", False, 2.0)
    strict = _projected(_table(row), solver="heuristic", heuristic={"top_k": 1})[0]
    assert [cell[:2] for cell in _chosen(strict)] == [(0, 1)]


def test_an_infeasible_form_is_reported_and_never_all_o() -> None:
    row = _row([_span(0, 1), _span(1, 2)], [_link(0, 0, 0.9, 0.9), _link(1, 0, 0.5, 0.5)])
    result = _projected(_table(row), per_entity="=1", min_score=0)[0]
    assert (result["solver"], result["optimal"]) == ("infeasible", False)
    assert [cell[4] for cell in _chosen(result)] == [0]
    assert result["unprojected"] == [{"source": 1, "reason": "infeasible"}]


def test_edges_without_a_prior_need_another_score() -> None:
    with pytest.raises(RecipeError, match="edges alone"):
        projection.project(_table(), Match.model_construct(scores={"edges": 1.0}), "itermax", None)


def _bridge(*spans: tuple[int, int, int], n: int = 3) -> dict[str, Any]:
    """bridge_spans (start, end, place in source_spans) over n words."""
    cells = [{"start": s, "end": e, "label": "PER", "score": 0.9, "source": source} for s, e, source in spans]
    return {"bridge_tokens": [f"b{i}" for i in range(n)], "bridge_spans": cells}


def test_a_bridge_takes_the_place_of_the_source_side() -> None:
    """Entities 0 and 2 came over; 1 was lost on the way and keeps its reason."""
    spans = [_span(0, 1, "PER"), _span(1, 2, "LOC"), _span(2, 4, "ORG")]
    cells = _bridge((0, 2, 2), (2, 3, 0), n=3)
    cells["bridge_spans"][0]["label"] = "ORG"
    links = [_link(0, 1), _link(1, 2), _link(2, 0)]
    bridged = _row(spans, links, unprojected=[{"source": 1, "reason": "marker_lost"}], **cells)
    direct = _row([_span(0, 1)], [_link(0, 3)])
    first, second, third = _projected(_table(direct, bridged, _row([], [], **_bridge())))
    assert _chosen(first) == [(3, 4, "PER", 1.0, 0)]
    assert _chosen(second) == [(0, 1, "PER", 1.0, 0), (1, 3, "ORG", 1.0, 2)]
    assert second["unprojected"] == [{"source": 1, "reason": "marker_lost"}]
    assert not second["complete"]
    assert (third["spans"], third["complete"]) == ([], True)


def test_a_bridge_without_entities_projects_none() -> None:
    lost = [{"source": 0, "reason": "marker_not_translated"}]
    row = _row([_span(0, 1)], [], unprojected=lost, bridge_tokens=None, bridge_spans=[])
    (result,) = _projected(_table(row))
    assert (result["spans"], result["unprojected"], result["solver"]) == ([], lost, "none")


def test_the_prior_counts_the_words_of_the_bridge() -> None:
    row = _row([_span(0, 1)], [_link(1, 0)], **_bridge((1, 2, 0)))
    first = projection.project(_table(row), Match(), "itermax", None)
    assert rows_of.read(first).source_tokens.to_pylist() == [["b0", "b1", "b2"]]


def _tag(word: int, **tags: float) -> list[dict[str, Any]]:
    return [{"word": word, "tag": tag.replace("_", "-"), "probability": p} for tag, p in tags.items()]


TAGGED = [*_tag(0, O=1.0), *_tag(1, B_PER=0.9, O=0.1), *_tag(2, I_PER=0.8, O=0.2), *_tag(3, B_LOC=1.0)]


def _tagged(spans: list[dict[str, Any]], links: list[dict[str, Any]], **settings: Any) -> dict[str, Any]:
    row = _row(spans, links, target_tags=TAGGED)
    result: dict[str, Any] = _projected(_table(row), **{"min_score": 0.0, **settings})[0]
    return result


def test_the_tagger_alone_places_an_entity_by_its_class() -> None:
    result = _tagged([_span(0, 2, "PER")], [], candidates="tagger", scores={"tagger": 1.0})
    assert _chosen(result) == [(1, 3, "PER", 0.9775, 0)]  # golden statement 28
    result = _tagged([_span(0, 1, "LOC")], [], candidates="ngram", scores={"tagger": 1.0})
    assert _chosen(result) == [(3, 4, "LOC", 1.0, 0)]
    unknown = _tagged([_span(0, 1, "MISC")], [], candidates="tagger", scores={"tagger": 1.0})
    assert unknown["unprojected"] == [{"source": 0, "reason": "no_candidate"}]
    free = _tagged([_span(0, 1, "MISC")], [], candidates="tagger", scores={"tagger_spans": 1.0})
    assert _chosen(free) == [(3, 4, "MISC", 1.0, 0)]


def test_a_score_above_one_is_a_confidence_of_one() -> None:
    settings: dict[str, Any] = {"candidates": "tagger", "scores": {"tagger": 1.0}, "tagger": {"alpha": 2.0}}
    result = _tagged([_span(0, 2, "PER")], [], **settings)
    assert (_chosen(result)[0][3], result["objective"]) == (1.0, 1.7)


def test_candidate_sets_join_and_parts_of_the_taggers_spans_count_on_request() -> None:
    links = [_link(0, 0), _link(0, 1)]
    scores = {"align": 1.0}
    found = _tagged([_span(0, 1)], links, candidates="tagger", scores=scores)
    assert _chosen(found) == [(1, 3, "PER", 0.6667, 0)]
    found = _tagged([_span(0, 1)], links, candidates="tagger", scores=scores, sub_ranges=True)
    assert _chosen(found) == [(1, 2, "PER", 1.0, 0)]
    found = _tagged([_span(0, 1)], links, candidates="window+tagger", scores=scores)
    assert (found["spans"][0]["start"], found["spans"][0]["end"], found["objective"]) == (0, 2, 1.3333)


def test_a_filter_removes_candidates_by_a_score_that_need_not_count() -> None:
    links = [_link(0, 0), _link(0, 1)]
    settings: dict[str, Any] = {"candidates": "window", "scores": {"align": 1.0}}
    assert _chosen(_tagged([_span(0, 1)], links, **settings))[0][:2] == (0, 2)
    # [0, 2) has B-PER at its second word, so its class-free score is 0; [1, 2) has 0.9.
    kept = _tagged([_span(0, 1)], links, **settings, filters={"tagger_spans": 0.2})
    assert _chosen(kept) == [(1, 2, "PER", 1.0, 0)]
    none = _tagged([_span(0, 1)], links, **settings, filters={"tagger_spans": 0.9})
    assert none["unprojected"] == [{"source": 0, "reason": "no_candidate"}]


def test_thresholds_of_the_method_apply_unless_the_recipe_has_its_own() -> None:
    evidence = [{"score": "likelihood", "source": 0, "start": 0, "end": 1, "value": 0.04}]
    row = _row([_span(0, 1)], [], evidence=evidence)
    settings: dict[str, Any] = {"candidates": "ngram", "scores": {"likelihood": 1.0}, "min_score": 0.0}
    assert _projected(_table(row), **settings)[0]["spans"] == []
    own = _projected(_table(row), **settings, thresholds={"likelihood": 0.03})[0]
    assert _chosen(own) == [(0, 1, "PER", 0.04, 0)]


def test_an_untypical_opening_asks_for_a_higher_score() -> None:
    """Places begin with a capital here; a small word, linked as well as they are, is none, and would be MISC."""

    def row(word: str, label: str) -> dict[str, Any]:
        words = {"source_tokens": ["in", "Europe"], "tokens": ["en", word]}
        return {**words, "source_spans": [_span(1, 2, label)], "links": [_link(1, 1, 1.0, 0.8)]}

    places = [row("Europa", "LOC")] * 60
    others = [row("europeo", "LOC"), *[row(f"adjetivo{n}", "MISC") for n in range(20)]]
    first = projection.project(_table(*others, *places), Match(), "itermax", None)
    assert all(row["spans"] for row in first.to_pylist())
    found = _projected(first, prior=_prior_of(first))
    assert [n for n, row in enumerate(found) if not row["spans"]] == [0]
    assert found[0]["unprojected"] == [{"source": 0, "reason": "low_score"}]


def test_coordinated_names_share_their_head() -> None:
    words = {
        "source_tokens": ["the", "Structural", "and", "Cohesion", "Funds"],
        "tokens": ["los", "Fondos", "Estructurales", "y", "de", "Cohesión"],
    }
    links = [_link(0, 0), _link(1, 2), _link(2, 3), _link(3, 5), _link(4, 1)]
    row = {**words, "source_spans": [_span(1, 2, "MISC"), _span(3, 5, "MISC")], "links": links}
    found = _chosen(_projected(_table(row))[0])
    assert [(start, end, source) for start, end, _, _, source in found] == [(1, 3, 0), (5, 6, 1)]
    apart = {**row, "source_spans": [_span(1, 2, "MISC"), _span(3, 5, "ORG")]}
    found = _chosen(_projected(_table(apart))[0])
    assert (2, 3, 0) in [(start, end, source) for start, end, _, _, source in found]
