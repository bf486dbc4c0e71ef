"""The head of report.html: what its records say of a run, and nothing else."""

from dataclasses import replace
from typing import Any

from page_rows import page_of, row_of, tables_of
from small_report import REPORT

from xner_ray.read.index.index import Index
from xner_ray.read.index.units import Segment, Unit
from xner_ray.read.record import START, File
from xner_ray.recipe.load import load_recipe
from xner_ray.report.head import head
from xner_ray.report.progress import moment

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def _index(n_files: int = 1) -> Index:
    files = [File(f"/secret/place/f{n}.conll", f"f{n}.conll", "conll", "eng_Latn") for n in range(n_files)]
    parts = [tuple(Segment(file, START, 0, 0, 4) for file in files)] * 2
    unit = Unit("swh_Latn-0", "swh_Latn", "train", 0, 4, None, (), parts[0], (), 9)
    return Index(
        [unit, replace(unit, name="swh_Latn-1")], ["PER"], {}, {}, {"swh_Latn": 4}, {"swh_Latn": 9}, 0, unit_rows=2
    )


def _head(report: Any = REPORT, index: Index | None = None, **sections: Any) -> dict[str, Any]:
    recipe = load_recipe({"input": {"path": "/secret/place/f0.conll"}, "targets": ["swh_Latn"], **sections})
    keys = {"translate.model identity": COMMIT, "align.encoder identity": 64 * "a"}
    return head(recipe, index or _index(), report, keys, {"xner_ray": "1.2.3", "torch": "2.0"})


def test_it_says_input_models_and_versions_and_no_place_of_the_machine() -> None:
    found = _head(translate={"model": f"owner/translator@{COMMIT}"})
    facts = dict(found["facts"])
    assert facts["input"] == ["f0.conll (conll, eng_Latn English)", "4 sentences"]
    assert facts["labelled for"] == ["swh_Latn Swahili"] and facts["labels"] == ["LOC, PER"]
    assert "translator: owner/translator (0123456789ab)" in facts["models"]
    assert "encoder of the aligner: builtin (aaaaaaaaaaaa)" in facts["models"]
    assert facts["made by"] == ["xner_ray 1.2.3, torch 2.0"] and facts["work"] == ["2 units of up to 2 rows"]
    assert "/secret" not in str(found)
    assert any("CC BY-NC 4.0" in line for line in found["licences"]) and found["test_models"] == []
    html = page_of(tables_of([row_of(0)]), facts=found["facts"], made=found["made"], licences=found["licences"])
    for text in (*facts["input"], *facts["models"], *found["made"], *found["licences"]):
        assert text.replace("'", "&#39;").replace("<", "&lt;") in html


def test_dates_are_there_if_they_were_recorded() -> None:
    assert not {"begun", "finished"} & dict(_head()["facts"]).keys()
    facts = dict(_head(replace(REPORT, began=moment(0), finished=moment(3600)))["facts"])
    assert (facts["begun"], facts["finished"]) == (["1970-01-01 00:00 UTC"], ["1970-01-01 01:00 UTC"])


def test_many_files_are_counted_and_a_test_model_is_called_one() -> None:
    found = _head(index=_index(30), translate={"model": "tiny-nllb"})
    assert dict(found["facts"])["input"][-2:] == ["and 22 more", "4 sentences"]
    assert found["test_models"] == ["tiny-nllb"]
    html = page_of(tables_of([row_of(0)]), test_models=found["test_models"])
    assert "Made with tiny-nllb, a test model of xner_ray" in html
