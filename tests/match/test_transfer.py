from typing import Any

import pyarrow as pa
from fakes import FakeTagger
from made_rows import table_from_rows

from xner_ray.data.row import ROW
from xner_ray.match.stage import TransferStage
from xner_ray.recipe.input import Labels
from xner_ray.recipe.load import load_recipe
from xner_ray.tag.stage import TargetTagStage

RECIPE = load_recipe(
    {
        "direction": "test",
        "projector": "transfer",
        "input": {"path": "a", "lang": "swh_Latn"},
        "target_tag": {"engine": "spacy"},
    }
)


def _rows(*texts: str, labels: Labels | None = None, **cells: Any) -> list[dict[str, Any]]:
    """The rows after a tagger to which words in capitals are ORG and capitalised ones PER, all with 0.75."""
    table = table_from_rows([{"row": n, "tokens": text.split(), **cells} for n, text in enumerate(texts)], ROW)
    tagged = TargetTagStage(RECIPE, FakeTagger())(table)
    result: list[dict[str, Any]] = TransferStage(labels or Labels())(tagged).to_pylist()
    return result


def test_spans_are_the_taggers_own_and_have_no_source() -> None:
    first, second = _rows("jana Anna UN", "hapana mtu")
    assert first["spans"] == [
        {"start": 1, "end": 2, "label": "PER", "score": 0.75, "source": None},
        {"start": 2, "end": 3, "label": "ORG", "score": 0.75, "source": None},
    ]
    assert (first["complete"], first["objective"], first["optimal"], first["solver"]) == (True, 1.5, False, "transfer")
    assert (second["spans"], second["complete"], second["solver"]) == ([], True, "none")


def test_the_label_map_applies() -> None:
    (row,) = _rows("Anna UN", labels=Labels(rename={"ORG": "UNIT"}, keep=["UNIT"]))
    assert [(s["start"], s["label"]) for s in row["spans"]] == [(1, "UNIT")]


def test_rejected_rows_stay_as_they_are() -> None:
    (row,) = _rows("Anna", status="rejected", reason="too_long")
    assert (row["spans"], row["target_tags"], row["status"]) == (None, None, "rejected")


def test_a_unit_without_rows_stays_without() -> None:
    assert TransferStage(Labels())(ROW.empty_table()).num_rows == 0
    assert isinstance(TransferStage(Labels())(ROW.empty_table()), pa.Table)
