import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_rows import table_from_rows

from xner_ray.data import row as data_row
from xner_ray.data.spans import Span, label_list, spans_to_tags
from xner_ray.run import parts as part_files
from xner_ray.run import publish, whole


@dataclass(frozen=True)
class FakeUnit:
    name: str
    lang: str
    split: str
    n_rows: int


def _row(number: int, **cells: Any) -> dict[str, Any]:
    return {
        "row": number,
        "id": f"s{number}",
        "lang": "spa_Latn",
        "split": "train",
        "tokens": ["Ana", "va"],
        "source_spans": data_row.span_cells([Span(0, 1, "PER")]),
        "spans": [{"start": 0, "end": 1, "label": "PER", "score": 1.0, "source": 0}],
        "unprojected": [],
        "complete": True,
        "solver": "independent",
        **cells,
    }


def _lost(number: int) -> dict[str, Any]:
    return _row(number, spans=[], unprojected=[{"source": 0, "reason": "no_candidate"}], complete=False)


def _rejected(number: int) -> dict[str, Any]:
    return _row(number, status="rejected", reason="too_long", spans=None, unprojected=None, complete=None)


def _finished(rows: list[dict[str, Any]], *, reject_incomplete: bool = False) -> pa.Table:
    return part_files.finish(table_from_rows(rows, data_row.ROW), ["LOC", "PER"], reject_incomplete=reject_incomplete)


def test_finish_writes_tags_of_emitted_rows_only() -> None:
    table = _finished([_row(0), _lost(1), _rejected(2)])
    assert table.column("ner_tags").to_pylist() == [[3, 0], [0, 0], None]


@st.composite
def _sentences(draw: st.DrawFn) -> tuple[int, list[Span], bool]:
    """Words, spans that do not overlap, and whether the row is rejected."""
    borders = sorted(draw(st.sets(st.integers(0, 9), max_size=8)))
    spans = [
        Span(a, b, draw(st.sampled_from(["LOC", "PER"]))) for a, b in zip(borders[::2], borders[1::2], strict=False)
    ]
    return draw(st.integers(borders[-1] if borders else 0, 10)), draw(st.permutations(spans)), draw(st.booleans())


@given(st.lists(_sentences(), max_size=6))
def test_tags_are_those_of_each_row_alone(sentences: list[tuple[int, list[Span], bool]]) -> None:
    rows = [
        {
            "row": number,
            "tokens": ["w"] * n_words,
            "spans": [{**cell, "source": 0} for cell in data_row.span_cells(spans)],
            "status": data_row.REJECTED if gone else data_row.OK,
        }
        for number, (n_words, spans, gone) in enumerate(sentences)
    ]
    numbers = {tag: number for number, tag in enumerate(label_list(["LOC", "PER"]))}
    expected = [None if gone else [numbers[tag] for tag in spans_to_tags(spans, n)] for n, spans, gone in sentences]
    assert _finished(rows).column("ner_tags").to_pylist() == expected


@pytest.mark.parametrize(
    "spans", [[(0, 2, "PER"), (1, 2, "PER")], [(1, 3, "PER")], [(1, 1, "PER")], [(-1, 1, "PER")], [(0, 1, "ORG")]]
)
def test_spans_that_make_no_tags_are_refused(spans: list[tuple[int, int, str]]) -> None:
    cells = [{"start": start, "end": end, "label": label, "score": 1.0, "source": 0} for start, end, label in spans]
    with pytest.raises(ValueError, match="row 's1'"):
        _finished([_row(0), _row(1, spans=cells), _rejected(2)])


def test_finish_rejects_incomplete_rows_on_request() -> None:
    table = _finished([_row(0), _lost(1)], reject_incomplete=True)
    assert table.column("reason").to_pylist() == [None, "incomplete"]
    assert table.column("ner_tags").to_pylist() == [[3, 0], None]


def test_count_adds_up() -> None:
    counters = part_files.count(_finished([_row(0), _lost(1), _rejected(2)]))
    assert counters["rows"] == {"read": 3, "emitted": 2, "rejected": 1}
    assert counters["rejects"] == {"too_long": 1}
    assert counters["entities"] == {
        "source": 2,
        "projected": 1,
        "unprojected": {"no_candidate": 1},
        "in_rejected_rows": 1,
    }
    assert counters["incomplete_rows"] == 1
    assert counters["projected_by_label"] == {"PER": 1}


def test_parts_carry_their_counters_and_rows(tmp_path: Path) -> None:
    path = str(tmp_path / "lang=x" / "u.parquet")  # a folder name that pyarrow takes for a partition
    table = _finished([_row(0), _rejected(1)])
    part_files.write_part(path, table, part_files.count(table))
    assert whole.counters(path)["rows"]["read"] == 2
    assert part_files.read_part(path).equals(table)


def test_columns_that_a_part_is_too_old_for_are_null(tmp_path: Path) -> None:
    path, table = str(tmp_path / "u.parquet"), _finished([_row(0), _rejected(1)])
    table = table.append_column("own", pa.array(["a", "b"]))
    part_files.write_part(path, table.drop_columns(["bridge_tokens", "evidence"]), part_files.count(table))
    assert part_files.read_part(path).equals(table)
    assert part_files.read_part(path, ["evidence", "id"]).equals(table.select(["evidence", "id"]))


def _run(tmp_path: Path, rows: list[list[dict[str, Any]]], **options: Any) -> tuple[list[publish.Published], Path]:
    units, paths = [], {}
    for number, part in enumerate(rows):
        name = f"spa_Latn-{number:012d}"
        paths[name] = str(tmp_path / "_run/parts/0001" / f"{name}.parquet")
        table = _finished(part)
        part_files.write_part(paths[name], table, part_files.count(table))
        units.append(FakeUnit(name, "spa_Latn", "train", len(part)))
    defaults: dict[str, Any] = {"rows_per_file": 100, "split_incomplete": False}
    return publish.plan_files(units, paths, ["LOC", "PER"], **{**defaults, **options}), tmp_path


def test_seal_publishes_every_row_once_in_order(tmp_path: Path) -> None:
    files, root = _run(tmp_path, [[_row(0), _rejected(1)], [_lost(2)], [_row(3)]], rows_per_file=2)
    written = publish.seal(str(root), files, {"README.md": b"card"})
    data = sorted((root / "data/spa_Latn").iterdir())
    assert [path.name for path in data] == ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
    assert [row for path in data for row in pq.read_table(path).column("row").to_pylist()] == [0, 2, 3]
    rejects = list((root / "rejects/spa_Latn").iterdir())
    assert [pq.read_table(path).column("row").to_pylist() for path in rejects] == [[1]]
    assert pq.read_schema(rejects[0]).names == pq.read_schema(data[0]).names
    sealed = json.loads((root / "_run/SEALED").read_text())["files"]
    assert sealed == written.files
    for entry in sealed:
        assert hashlib.sha256((root / entry["file"]).read_bytes()).hexdigest() == entry["sha256"]
    assert (root / "README.md").read_bytes() == b"card"


def test_sealing_again_changes_no_byte(tmp_path: Path) -> None:
    files, root = _run(tmp_path, [[_row(0)], [_row(1), _lost(2)]])
    assert publish.seal(str(root), files, {}) == publish.seal(str(root), files, {})


def test_rejects_that_a_retry_mended_leave_no_file(tmp_path: Path) -> None:
    files, root = _run(tmp_path, [[_row(0), _rejected(1)]])
    assert len(publish.seal(str(root), files, {}).files) == 2
    files, root = _run(tmp_path, [[_row(0), _row(1)]])
    (entry,) = publish.seal(str(root), files, {}).files
    assert entry["rows"] == 2 and not list((root / "rejects").glob("*/*"))


def test_chunks_of_a_table_change_no_byte(tmp_path: Path) -> None:
    table = _finished([_row(0), _row(1), _row(2)])
    one, other = (tmp_path / name / "parts" / "0001" / "u.parquet" for name in "ab")
    part_files.write_part(str(one), table, {})
    part_files.write_part(str(other), pa.concat_tables([table.slice(0, 1), table.slice(1)]), {})
    assert one.read_bytes() == other.read_bytes()


def test_incomplete_rows_can_stand_in_files_of_their_own(tmp_path: Path) -> None:
    files, root = _run(tmp_path, [[_row(0), _lost(1), _row(2)]], split_incomplete=True)
    publish.seal(str(root), files, {})
    rows = {p.name: pq.read_table(p).column("row").to_pylist() for p in (root / "data/spa_Latn").iterdir()}
    assert rows == {"train-00000-of-00001.parquet": [0, 2], "incomplete-train-00000-of-00001.parquet": [1]}


def test_a_language_without_a_single_row_still_has_its_file(tmp_path: Path) -> None:
    files, root = _run(tmp_path, [[_rejected(0)]])
    publish.seal(str(root), files, {})
    assert pq.read_table(root / "data/spa_Latn/train-00000-of-00001.parquet").num_rows == 0


@pytest.mark.parametrize("rows_per_file", [1, 2, 3, 100])
def test_files_share_units_evenly_and_completely(rows_per_file: int) -> None:
    units = [FakeUnit(f"u{n}", "spa_Latn", "train", 2) for n in range(7)]
    paths = {unit.name: unit.name for unit in units}
    files = publish.plan_files(units, paths, ["PER"], rows_per_file=rows_per_file, split_incomplete=False)
    data = [file for file in files if file.kind == "emitted"]
    assert [part for file in data for part in file.parts] == [unit.name for unit in units]
    assert all(file.parts for file in data)
    assert all(file.file.endswith(f"-of-{len(data):05d}.parquet") for file in data)


def test_splits_and_languages_have_files_of_their_own() -> None:
    units = [
        FakeUnit("a", "spa_Latn", "train", 1),
        FakeUnit("b", "spa_Latn", "test", 1),
        FakeUnit("c", "swh_Latn", "train", 1),
    ]
    files = publish.plan_files(units, {n: n for n in "abc"}, ["PER"], rows_per_file=10, split_incomplete=False)
    assert [file.file for file in files if file.kind == "emitted"] == [
        "data/spa_Latn/train-00000-of-00001.parquet",
        "data/spa_Latn/test-00000-of-00001.parquet",
        "data/swh_Latn/train-00000-of-00001.parquet",
    ]


def test_a_doubtful_entity_makes_its_row_incomplete() -> None:
    spans = [{"start": 0, "end": 1, "label": "LOC", "score": score, "source": 0} for score in (0.5, 0.7)]
    rows = [
        {"row": n, "id": str(n), "tokens": ["a"], "spans": [span], "complete": True} for n, span in enumerate(spans)
    ]
    table = table_from_rows(rows, data_row.ROW)
    kept = part_files.finish(table, ["LOC"], reject_incomplete=False, doubtful=0.7)
    assert kept.column("complete").to_pylist() == [False, True]  # 0.7 in float32 is not below 0.7
    found = part_files.finish(table, ["LOC"], reject_incomplete=True, doubtful=0.7)
    assert found.column("reason").to_pylist() == ["incomplete", None]
