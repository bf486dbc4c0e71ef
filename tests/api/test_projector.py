"""A projector in memory gives the rows of a run over the same sentences, and loses none."""

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import xner_ray
from xner_ray.errors import InputError, RecipeError

RECORDS: list[dict[str, Any]] = [
    {"id": "a", "tokens": ["Nora", "lives", "in", "Paris", "."], "ner_tags": ["B-PER", "O", "O", "B-LOC", "O"], "n": 1},
    {"id": "b", "tokens": ["Oslo", "is", "cold", "."], "ner_tags": ["B-LOC", "O", "O", "O"], "n": 2},
    {"id": "c", "tokens": ["Nothing", "here"], "ner_tags": ["O", "X-LOC"], "n": 3},
]
SPANISH = ["Nora vive en París.", "Oslo es fría.", "Nada aquí"]


@pytest.fixture(scope="module")
def projector() -> xner_ray.Projector:
    return xner_ray.Projector(progress=False)


@pytest.fixture(scope="module")
def rows(projector: xner_ray.Projector) -> xner_ray.Rows:
    return projector.project(RECORDS, parallel={"spa_Latn": SPANISH})


def test_the_rows_are_those_of_a_run(rows: xner_ray.Rows, tmp_path: Path) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    (tmp_path / "sentences").write_text(lines)
    (tmp_path / "es.txt").write_text("".join(f"{line}\n" for line in SPANISH))
    given = {"path": str(tmp_path / "sentences"), "format": "jsonl", "parallel": {"spa_Latn": str(tmp_path / "es.txt")}}
    run = xner_ray.project({"input": given, "targets": ["spa_Latn"]}, tmp_path / "run", allow_rejects=True)
    assert run.to_arrow("spa_Latn").equals(rows.to_arrow(), check_metadata=True)
    rejected = pq.read_table(next((tmp_path / "run/rejects/spa_Latn").iterdir()))
    assert rejected.to_pylist() == rows.rejects
    assert [row["reason"] for row in rows.rejects] == ["illegal_tag"]
    for key in ("rows", "rejects", "entities", "labels", "flags"):
        assert run[key] == rows.report[key], key
    assert str(run.explain("a")) == str(rows.explain("a"))


def test_rows_are_a_sequence_of_dicts(rows: xner_ray.Rows) -> None:
    assert (len(rows), [row["id"] for row in rows], rows[-1]["id"]) == (2, ["a", "b"], "b")
    assert rows[0:1] == [rows[0]]
    assert rows.labels == ["LOC", "PER"]
    placed = {(" ".join(r["tokens"][s["start"] : s["end"]]), s["label"]) for r in rows for s in r["spans"]}
    assert placed == {("Nora", "PER"), ("París", "LOC"), ("Oslo", "LOC")}
    with pytest.raises(IndexError):
        rows[2]
    with pytest.raises(InputError, match=r"no sentence has the id 'z'; ids look like 'a'"):
        rows.explain("z")
    with pytest.raises(InputError, match=r"'swh_Latn' is none of their languages; allowed: spa_Latn"):
        rows.to_arrow("swh_Latn")
    assert "rejected (illegal_tag 1)" in repr(rows)


def test_tables_of_other_libraries_go_in_and_come_out(projector: xner_ray.Projector, rows: xner_ray.Rows) -> None:
    import datasets

    good = [{key: record[key] for key in ("id", "tokens", "ner_tags")} for record in RECORDS[:2]]
    table = pa.Table.from_pylist(good)
    names = datasets.ClassLabel(names=["O", "B-LOC", "I-LOC", "B-PER", "I-PER"])
    own = datasets.Dataset.from_list(good)
    tags = datasets.List(names)
    numbered = own.map(lambda row: {"ner_tags": names.str2int(row["ner_tags"])}).cast_column("ner_tags", tags)
    expected = [row["spans"] for row in rows]
    for given in (table, table.to_pandas(), own, numbered):
        found = projector.project(given, parallel={"spa_Latn": pa.table({"text": SPANISH[:2]})})
        assert [row["spans"] for row in found] == expected
    assert rows.to_dataset().features["ner_tags"].feature.names == names.names
    assert list(rows.to_pandas()["id"]) == ["a", "b"]


def test_plain_texts_are_tagged_and_html_is_escaped(projector: xner_ray.Projector) -> None:
    text = "<script>alert(1)</script> Nora lives in Paris."
    found = projector.project([text], parallel={"spa_Latn": ["<b>Nora</b> vive en París."]})
    assert {span["label"] for span in found[0]["spans"]} >= {"LOC"}
    html = found._repr_html_()
    assert "<script" not in html and "<b>Nora" not in html and "París" in html and "LOC</bdi>" in html


def test_what_cannot_be_read_is_one_line_with_a_cure(projector: xner_ray.Projector) -> None:
    parallel = {"spa_Latn": ["x"]}
    for given, message in (
        ("Nora", r"sentences: is one text; give a list"),
        ([], r"sentences: is empty"),
        ([3], r"sentences\[0\]: is a int; allowed: a text, or a record"),
        ([{"text": object()}], r"sentences\[0\]: cannot be written as JSON"),
        (["a", "b"], r"parallel-spa_Latn.jsonl has 1 sentences, sentences has 2"),
    ):
        with pytest.raises(InputError, match=message) as caught:
            projector.project(given, parallel=parallel)
        assert "\n" not in str(caught.value) and "/tmp" not in str(caught.value)
    with pytest.raises(RecipeError, match="direction train needs at least one language"):
        projector.project(["a"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algin": {}}, "unknown key 'algin'"),
        ({"fresh": True}, "fresh: is for runs"),
        ({"engine": {"executor": "ray"}}, "engine.executor is 'ray': a projector works in this process"),
        ({"engine.address": "auto"}, "engine.address is 'auto'"),
        ({"input": {"limit": 3}}, "input.limit is 3"),
        ({"output": {"incomplete": "split"}}, "output.incomplete is 'split'"),
        ({"align": {"workers": 2}}, "align.workers is set"),
    ],
)
def test_what_cannot_be_done_in_memory_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        xner_ray.Projector(**settings)


def test_keywords_join_the_sections_of_a_recipe() -> None:
    recipe = {"targets": ["spa_Latn"], "match": {"min_score": 0.5}, "input": {"labels": {"keep": ["LOC"]}}}
    with xner_ray.Projector(recipe, match={"prior": "none"}, progress=False) as projector:
        found = projector.project(RECORDS[:2], parallel={"spa_Latn": SPANISH[:2]})
        assert found.labels == ["LOC"]
        assert (found._recipe.match.min_score, found._recipe.match.prior) == (0.5, "none")
    with pytest.raises(RecipeError, match="is closed"):
        projector.project(RECORDS[:2], parallel={"spa_Latn": SPANISH[:2]})


def test_models_are_loaded_once_and_threads_may_share_them(
    projector: xner_ray.Projector, rows: xner_ray.Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object) -> None:
        raise AssertionError("loaded again")

    monkeypatch.setattr("xner_ray.engine.stages._aligner", load)
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(projector.project(RECORDS, parallel={"spa_Latn": SPANISH})))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.to_arrow().equals(rows.to_arrow()) for each in found] == [True, True]


def test_a_projector_imports_no_ray() -> None:
    code = (
        "import sys, xner_ray\n"
        "rows = xner_ray.Projector().project(['Nora lives in Paris.'], parallel={'spa_Latn': ['Nora vive.']})\n"
        "print(len(rows), 'ray' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["1", "False"]
