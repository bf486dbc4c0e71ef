"""Sentences of finished runs and of labelled files, before any filter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from published import seal_as_it_is
from students import Row, row, run, training

from xner_ray.errors import InputError, RunFolderError, StorageError
from xner_ray.train.runs import _plain, _scored
from xner_ray.train.sources import load

LOST = {"complete": False, "unprojected": [{"source": 0, "reason": "no_candidate"}]}


def _words(table: pa.Table) -> list[str]:
    return [" ".join(tokens) for tokens in table.column("tokens").to_pylist()]


def _read(source: Row, role: Any = "data", **others: Any) -> tuple[pa.Table, dict[str, Any]]:
    other = {role: [source]} if role != "data" else {}
    table, (tally,) = load(training(source, **other, **others), role)
    plain = tally.to_dict()
    assert plain["read"] == plain["kept"] + sum(plain["dropped"].values())
    assert plain["kept"] == table.num_rows
    return table, plain


@pytest.fixture
def aside(tmp_path: Path) -> str:
    """One whole sentence, one that lost its entity and is put aside, one without gold, one rejected."""
    rows = [row("a b", (0, 1, "PER")), row("c d", **LOST), row("e f", gold_spans=None)]
    rows.append(row("g h", status="rejected", reason="stage_error"))
    return run(tmp_path / "aside", {"spa_Latn": rows}, aside=True)


def test_what_was_put_aside_is_left_out_for_the_sake_of_projected_labels_alone(aside: str) -> None:
    table, tally = _read({"run": aside})
    assert _words(table) == ["a b", "e f"]
    rejected = {"rejected by the run": 1}
    assert (tally["read"], tally["kept"], tally["dropped"]) == (4, 2, {"put aside by the run": 1, **rejected})
    for incomplete, expected in [("keep", 3), ("mask", 3), ("drop", 2)]:
        table, tally = _read({"run": aside, "filters": {"incomplete": incomplete}})
        assert table.num_rows == expected and tally["read"] == 4
        assert tally["masked"] == (incomplete == "mask")
    table, tally = _read({"run": aside, "labels": "gold"})
    assert _words(table) == ["a b", "c d"] and tally["dropped"] == {"no labels": 1, **rejected}
    assert _words(_read({"run": aside}, "evaluate")[0]) == ["a b", "c d"]
    assert _words(_read({"run": aside, "side": "source"})[0]) == ["x y z"] * 3


def test_the_source_side_is_read_once_and_whole(tmp_path: Path) -> None:
    """A row that one language rejected is there if another has it."""
    bad = {"status": "rejected", "reason": "stage_error"}
    sides = [{"source_tokens": [word], "source_spans": []} for word in "pqr"]
    first = [row("a", **sides[0]), row("b", **sides[1], **bad), row("c", **sides[2], **bad)]
    second = [row("a", **sides[0]), row("b", **sides[1]), row("c", **sides[2], **bad)]
    path = run(tmp_path / "run", {"spa_Latn": first, "deu_Latn": second})
    table, tally = _read({"run": path, "side": "source"})
    assert _words(table) == ["p", "q"] and table.column("lang").to_pylist() == ["eng_Latn"] * 2
    assert tally["read"] == 2
    assert _words(_read({"run": path, "side": "source", "langs": ["deu_Latn"]})[0]) == ["p", "q"]


def test_translations_of_several_languages_are_several_source_sides(tmp_path: Path) -> None:
    rows = {lang: [row("a", source_tokens=[word])] for lang, word in (("spa_Latn", "p"), ("deu_Latn", "q"))}
    path = run(tmp_path / "run", rows, direction="test")
    assert _words(_read({"run": path, "side": "source"})[0]) == ["p", "q"]


def test_of_nested_entities_the_longest_is_learnt(tmp_path: Path) -> None:
    nested = [{"start": s, "end": e, "label": label, "score": 1.0} for s, e, label in [(0, 3, "ORG"), (1, 2, "LOC")]]
    path = run(tmp_path / "run", {"spa_Latn": [row("a", source_spans=nested)]})
    table, tally = _read({"run": path, "side": "source"})
    assert table.column("spans").to_pylist() == [[{"start": 0, "end": 3, "label": "ORG"}]]
    assert tally["nested"] == 1
    # Labels go first: where the longer one is not kept, the shorter one is not inside anything
    table, tally = _read({"run": path, "side": "source"}, labels={"keep": ["LOC"]})
    assert table.column("spans").to_pylist() == [[{"start": 1, "end": 2, "label": "LOC"}]]
    assert (tally["nested"], tally["labels_dropped"]) == (0, {"ORG": 1})


def test_runs_that_cannot_be_read(aside: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no language deu_Latn; it has spa_Latn"):
        _read({"run": aside, "langs": ["deu_Latn"]})
    empty = run(tmp_path / "empty", {"spa_Latn": [row("a", status="rejected", reason="empty")]})
    with pytest.raises(InputError, match=r"data: no sentence is left \(.*empty.*: 1 read, 1 rejected by the run\)"):
        _read({"run": empty})
    (Path(aside) / "data/spa_Latn/train-00000-of-00001.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(StorageError, match=r"train-00000-of-00001\.parquet: is cut off \(17 bytes"):
        _read({"run": aside})
    (Path(aside) / "_run/SEALED").unlink()
    with pytest.raises(RunFolderError, match="not sealed yet; finish the run first"):
        _read({"run": aside})


def test_columns_younger_than_the_run_are_null(aside: str) -> None:
    file = Path(aside) / "data/spa_Latn/train-00000-of-00001.parquet"
    pq.write_table(pq.read_table(file, partitioning=None).drop_columns(["target_tags", "flags"]), file)
    seal_as_it_is(Path(aside))
    assert _read({"run": aside, "filters": {"flags": ["snapped"]}})[0].num_rows == 2
    with pytest.raises(InputError, match="4 read, 1 rejected by the run, 3 no labels"):
        _read({"run": aside, "labels": "soft"})


def _cells(*tags: tuple[int, str, float]) -> list[Row]:
    return [{"word": word, "tag": tag, "probability": p} for word, tag, p in tags]


def test_teachers_are_averaged_by_weight(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tags = ["O", "B-PER", "I-PER"]
    words = [["a", "b"], ["c"], ["d", "e", "f"], ["g"]]
    drawn = [[rng.dirichlet([1, 1, 1], len(each)) for each in words] for _ in range(3)]
    silent = {(0, 1), (1, 1), (1, 2), (0, 3), (1, 3), (2, 3)}  # (teacher, row) without an opinion
    paths = []
    for teacher, rows in enumerate(drawn):
        made = []
        for number, found in enumerate(rows):
            cells = [(w, tag, float(p)) for w, ps in enumerate(found) for tag, p in zip(tags, ps, strict=True)]
            own = None if (teacher, number) in silent else _cells(*cells)
            made.append(row(" ".join(words[number]), target_tags=own))
        paths.append(run(tmp_path / str(teacher), {"spa_Latn": made}))
    weights = [2.0, 1.0, 3.0]
    teachers = [{"run": path, "weight": w} for path, w in zip(paths[1:], weights[1:], strict=True)]
    source = {"run": paths[0], "labels": "soft", "teachers": teachers, "teacher_weight": weights[0]}
    table, tally = _read(source)
    assert tally["dropped"] == {"no labels": 1} and table.column("row").to_pylist() == [0, 1, 2]
    for number, cells in enumerate(table.column("tags").to_pylist()):
        speaking = [t for t in range(3) if (t, number) not in silent]
        total = sum(weights[t] for t in speaking)
        for cell in cells:
            place = (cell["word"], tags.index(cell["tag"]))
            expected = sum(weights[t] * drawn[t][number][place] for t in speaking) / total
            assert cell["probability"] == pytest.approx(expected, abs=1e-6)
        assert len(cells) == 3 * len(words[number])


def test_teachers_must_be_over_the_same_words_and_have_an_opinion(tmp_path: Path) -> None:
    own = run(tmp_path / "a", {"spa_Latn": [row("a b", target_tags=_cells((0, "O", 1.0)))]})
    other = run(tmp_path / "b", {"spa_Latn": [row("a c", target_tags=_cells((0, "O", 1.0)))]})
    mute = run(tmp_path / "c", {"spa_Latn": [row("a b")]})
    with pytest.raises(InputError, match="other words in row 0; all must be over the same target text"):
        _read({"run": own, "labels": "soft", "teachers": [{"run": other}]})
    with pytest.raises(InputError, match="c has no target_tags in spa_Latn"):
        _read({"run": own, "labels": "soft", "teachers": [{"run": mute}]})


def test_files_lose_no_sentence_in_silence(tmp_path: Path) -> None:
    lines = [
        {"id": "one", "doc_id": "D", "tokens": ["Al", "ran"], "ner_tags": ["B-PERSON", "O"]},
        {"tokens": ["Bonn"], "ner_tags": ["B-LOC"]},
        {"tokens": [" "], "ner_tags": ["O"]},
        {"tokens": ["no", "labels"]},
        {"tokens": ["in", "Rome"], "ner_tags": ["O", "B-MISC"]},
    ]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = {"path": str(file), "labels": {"rename": {"PERSON": "PER"}, "keep": ["PER", "LOC", "MISC"]}}
    table, tally = _read({"input": given}, labels={"rename": {"PER": "HUM"}, "keep": ["HUM", "LOC"]})
    assert table.column("id").to_pylist() == ["one", "a.jsonl:2", "a.jsonl:5"]
    assert table.column("doc_id").to_pylist() == ["D", None, None]
    labels = [[span["label"] for span in spans] for spans in table.column("spans").to_pylist()]
    assert labels == [["HUM"], ["LOC"], []]
    assert tally["dropped"] == {"empty": 1, "no labels": 1} and tally["labels_dropped"] == {"MISC": 1}
    assert _read({"input": {**given, "limit": 2}})[1]["read"] == 2
    message = r"a.jsonl \(eng_Latn\), splits \[test\]: 5 read, 5 other split\); loosen splits, filters"
    with pytest.raises(InputError, match=message):
        _read({"input": given, "splits": ["test"]})


def test_lists_are_read_where_arrow_hides_them() -> None:
    """A slice, and a null whose extent is not empty."""
    kind = pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string()), ("score", pa.float32())])
    one = {"start": 0, "end": 1, "label": "PER", "score": 0.5}
    values = pa.array([{**one, "start": n} for n in range(6)], kind)
    lists = pa.ListArray.from_arrays(
        pa.array([0, 1, 3, 5, 6], pa.int32()), values, mask=pa.array([False, False, True, False])
    )
    column = pa.chunked_array([lists.slice(1, 2), lists.slice(3)])
    plain = _plain(column).to_pylist()
    assert [None if spans is None else [span["start"] for span in spans] for spans in plain] == [[1, 2], None, [5]]
    assert _scored(pa.table({"spans": column})).to_pylist() == [[0.5, 0.5], [], [0.5]]
