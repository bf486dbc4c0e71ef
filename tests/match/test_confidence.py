"""The probability that a projected entity is right: what speaks against it lowers it, and no batch changes it."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fakes import FakeTagger
from made_rows import table_from_rows

from xner_ray.data.links import METHODS
from xner_ray.data.row import row_schema
from xner_ray.match import projection
from xner_ray.match.confidence.maps import ALONE, TAGGED, maps
from xner_ray.match.rows import read, seen
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.sections import Match
from xner_ray.tag.stage import TagStage, TargetTagStage

SURE = {"forward": 1.0, "backward": 1.0, "cosine": 0.9, "methods": 1 << METHODS.index("itermax")}


def _row(target: list[str], link: float = 1.0, label: str = "PER", **cells: Any) -> dict[str, Any]:
    """ "Anna met Bob", a PER, word by word."""
    source = ["Anna", "met", "Bob"]
    links = [{"source": n, "target": n, **SURE, "forward": link, "backward": link} for n in range(3)]
    spans = [{"start": 0, "end": 1, "label": label, "score": 1.0}]
    return {"source_tokens": source, "tokens": target, "source_spans": spans, "links": links, **cells}


def _table(*rows: dict[str, Any]) -> pa.Table:
    return table_from_rows([{"row": number, **row} for number, row in enumerate(rows)], row_schema())


def _recipe(**sections: Any) -> Any:
    return load_recipe({"input": {"path": "a"}, "targets": ["spa_Latn"], **sections})


def _scores(table: pa.Table, *, labelled: bool = True, **settings: Any) -> list[list[float]]:
    found = projection.project(table, Match(**settings), "itermax", None, labelled=labelled)
    return [[span["score"] for span in spans or ()] for spans in found.column("spans").to_pylist()]


def test_what_speaks_against_an_entity_lowers_its_score() -> None:
    tagger = TargetTagStage(_recipe(), FakeTagger())
    names = {
        "same": _row(["Anna", "vio", "Bob"]),
        "lost": _row(["anna", "vio", "Bob"]),  # small: O in the target
        "contradicted": _row(["ANNA", "vio", "Bob"]),  # all capitals: ORG in the target
        "mislabelled": _row(["Anna", "vio", "Bob"], label="ORG"),  # PER for the tagger, on both sides
        "unsure link": _row(["Anna", "vio", "Bob"], link=0.8),
    }
    found = dict(zip(names, _scores(tagger(_table(*names.values()))), strict=True))
    (best,) = found.pop("same")
    assert 0.9 < best <= 1
    for name, (score,) in found.items():
        assert 0 < score < best - 0.01, name
    assert found["mislabelled"][0] < found["contradicted"][0]


def test_the_score_of_the_matching_is_there_on_demand_and_where_no_map_is_fitted() -> None:
    table = _table(_row(["Anna", "vio", "Bob"]))
    assert _scores(table, confidence="none") == [[1.0]]
    assert _scores(table, scores={"soft": 1.0}) == [[1.0]]
    assert _scores(table, solver="heuristic") == [[1.0]]
    assert _scores(table) != [[1.0]]


def test_a_label_that_the_tagger_does_not_have_is_judged_by_links_alone() -> None:
    rows = [_row(["Anna", "vio", "Bob"], label="DATE"), _row(["Anna", "vio", "Bob"])]
    tagged = TargetTagStage(_recipe(), FakeTagger())(_table(*rows))
    assert tagged.column("source_opinions").to_pylist()[0] == [None]
    assert _scores(tagged)[0] == _scores(_table(*rows))[0] != _scores(tagged)[1]
    (unread,) = _scores(_table(rows[1]), labelled=False)
    assert unread[0] < _scores(_table(rows[1]))[0][0]  # a tagger's own entities are wrong more often


def test_no_batch_changes_a_score() -> None:
    rows = [_row([word, "vio", "Bob"], link) for word in ("Anna", "anna", "ANNA") for link in (1.0, 0.8)]
    rows.append(_row(["Anna", "vio", "Bob"], status="rejected", reason="too_long"))
    table = TargetTagStage(_recipe(), FakeTagger())(_table(*rows))
    whole = _scores(table)
    assert whole == [_scores(table.slice(n, 1))[0] for n in range(table.num_rows)]
    assert whole[::-1] == _scores(table.take(pa.array(range(table.num_rows)[::-1])))
    assert whole[-1] == []


def test_each_entity_has_the_opinion_of_its_own_place_in_source_spans() -> None:
    row = _row(["Anna", "vio", "Bob"])
    row["source_spans"] = [
        {"start": s, "end": s + 1, "label": lab, "score": 1.0} for s, lab in ((0, "PER"), (2, "LOC"))
    ]
    row["unprojected"] = [{"source": 0, "reason": "marker_lost"}]  # before matching, so that index 1 is entity 0
    opinions = [{"label": 0.1, "entity": 0.2, "span": 0.3}, {"label": 0.4, "entity": 0.5, "span": 0.6}]
    rows = read(_table(row | {"source_opinions": opinions, "target_tags": []}))
    _, solution = projection.matched(rows, Match(), "itermax", None)
    found = seen(rows, solution.chosen, labelled=True)
    assert (found.read.tolist(), np.round(found.source.span, 4).tolist()) == ([True], [0.6])


def test_the_source_is_read_once_for_all_languages_and_not_where_its_tagger_has_spoken() -> None:
    tagger = FakeTagger()
    stage = TargetTagStage(_recipe(), tagger)
    table = _table(_row(["Anna", "vio", "Bob"]))
    first, second = stage(table), stage(table)
    assert tagger.tokens == 3 + 3 + 3  # source, target, target
    assert first.column("source_opinions").to_pylist() == second.column("source_opinions").to_pylist()
    assert first.column("source_opinions").to_pylist()[0] == [
        pytest.approx({"label": 0.75, "entity": 0.75, "span": 0.75})
    ]
    stage(first)
    assert tagger.tokens == 12


def test_a_tagger_of_probabilities_judges_its_own_entities() -> None:
    class Judging(FakeTagger):
        def tagged(self, sentences: Any) -> Any:
            return list(zip(self.tag(sentences), self.probabilities([words for words, _ in sentences]), strict=True))

    row = {key: value for key, value in _row(["Anna", "vio", "Bob"]).items() if key != "source_spans"}
    row["source_offsets"] = [{"start": n, "end": n + 1} for n in (0, 2, 4)]

    def scored(labels: dict[str, Any], **sections: Any) -> tuple[dict[str, Any], list[list[float]]]:
        recipe = _recipe(tag={"engine": "builtin"}, input={"path": "a", "labels": labels}, **sections)
        tagged = TagStage(recipe, Judging())(_table(row))
        return tagged.to_pylist()[0], _scores(TargetTagStage(recipe, FakeTagger())(tagged), labelled=False)

    found, likely = scored({})
    assert [round(each["span"], 2) for each in found["source_opinions"]] == [0.75, 0.75]
    # target_tag has the new name of a label, so it is asked on both sides; one without that name has no opinion
    renamed, unread = scored({"rename": {"PER": "PERSON"}})
    assert [span["label"] for span in renamed["source_spans"]] == ["PERSON", "PERSON"]
    assert renamed["source_opinions"] is None
    assert unread == _scores(_table(row | {"source_spans": renamed["source_spans"]}), labelled=False) != likely
    # Another tagger's opinion cannot be compared: that of the target side gives its own
    other, asked = scored({}, target_tag={"engine": "builtin", "labels": {"PER": "PER", "LOC": "PLACE"}})
    assert (other["source_opinions"], asked) == (None, likely)


def test_the_shipped_maps_have_a_weight_for_every_feature_and_none_that_is_upside_down() -> None:
    assert set(maps()) == {f"{name}, {prior}" for name in ("tagged", "alone") for prior in ("prior", "no prior")}
    for name, weights in maps().items():
        assert set(weights) == {"intercept", *(TAGGED if name.startswith("tagged") else ALONE)}
        assert all(weight < 0 for feature, weight in weights.items() if feature != "intercept"), name
