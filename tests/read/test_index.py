"""Index and units: that no row is lost however the input is cut, and files that cannot be used."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import read_all, reasons, to_test, to_train, write, write_conll

from xner_ray.errors import InputError
from xner_ray.read.index import scan as scanning
from xner_ray.read.index.build import build_index
from xner_ray.read.index.index import Index
from xner_ray.read.index.units import MOST_UNITS, grown_unit_rows

# index and units


def test_units_of_rows_languages_and_splits(tmp_path: Path) -> None:
    paths = {"test": str(write_conll(tmp_path / "t.conll", 3)), "train": str(tmp_path / "many")}
    (tmp_path / "many").mkdir()
    for name in "abc":
        write_conll(tmp_path / f"many/{name}.conll", 4, word=name)
    recipe = to_train(paths, unit_rows=5, targets=("spa_Latn", "por_Latn"))
    index = build_index(recipe)
    assert [(u.name, u.split, u.n_rows) for u in index.units] == [
        (f"{lang}-{row:012d}", split, count)
        for lang in ("spa_Latn", "por_Latn")
        for row, split, count in ((0, "train", 5), (5, "train", 5), (10, "train", 2), (12, "test", 3))
    ]
    assert index.n_rows == {"spa_Latn": 15, "por_Latn": 15}
    assert index.n_words == {"spa_Latn": 30, "por_Latn": 30}
    assert [len(unit.segments) for unit in index.units[:4]] == [2, 2, 1, 1]
    rows = read_all(recipe, index)
    assert rows.column("id").to_pylist()[:5] == ["a.conll:1", "a.conll:4", "a.conll:7", "a.conll:10", "b.conll:1"]


def test_index_survives_its_table(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"id": str(i % 7), "tokens": ["a"], "ner_tags": ["I-PER"]} for i in range(9)))
    recipe = to_train(path, unit_rows=2, input={"sample": {"rows": 6}, "parallel": {"spa_Latn": str(path)}})
    index = build_index(recipe)
    assert index.repaired == 9
    pq.write_table(index.to_table(), tmp_path / "units.parquet")
    again = Index.from_table(pq.read_table(tmp_path / "units.parquet")).bound(recipe)
    assert again == index
    assert read_all(recipe, again) == read_all(recipe, index)


@pytest.mark.parametrize("format", ["conll", "jsonl", "text", "parquet", "gz"])
def test_rows_do_not_depend_on_the_size_of_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str) -> None:
    monkeypatch.setattr("xner_ray.read.index.scan.ScanJob.__init__.__defaults__", (4,), raising=False)
    options: dict[str, Any] = {}
    if format == "conll":
        blocks = [
            f"-DOCSTART- O\n\nA{i} B-PER\n\n" if i % 5 == 0 else f"# id = s{i % 40}\nb{i} O\nc\tX\n\n"
            for i in range(60)
        ]
        path = write(tmp_path / "a.conll", *blocks)
    elif format == "jsonl":
        rows = [
            {"text": f"Al saw {i}. And so on.", "spans": [], "split": ["train", "dev"][i % 3 == 0]} for i in range(60)
        ]
        path = write(tmp_path / "a.jsonl", *rows)
    elif format == "text":
        path = write(tmp_path / "a.txt", *(f"Line {i}. Two.\n" for i in range(60)))
        options = {"input": {"split": "sentences"}}
    elif format == "parquet":
        path = tmp_path / "a.parquet"
        pq.write_table(pa.table({"text": [f"t {i}" for i in range(60)], "n": range(60)}), path, row_group_size=9)
    else:
        import gzip

        path = tmp_path / "a.conll.gz"
        path.write_bytes(gzip.compress(b"".join(b"a%d O\n\n" % i for i in range(60))))
    tables = [read_all(to_test(path, unit_rows=size, **options)) for size in (1, 7, 2048)]
    by_row = [table.sort_by("row").combine_chunks() for table in tables]
    assert by_row[0].num_rows == (120 if format == "text" else 60)
    assert by_row[0].equals(by_row[1])
    assert by_row[1].equals(by_row[2])
    if format == "conll":
        assert set(reasons(by_row[0])) == {None, "illegal_tag"}


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    unit_rows=st.sampled_from([1, 2, 3, 7, 50]),
    grid=st.sampled_from([1, 30, 100]),
    sample=st.none() | st.tuples(st.integers(1, 60), st.integers(0, 3)),
)
def test_units_over_many_files(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    unit_rows: int,
    grid: int,
    sample: tuple[int, int] | None,
) -> None:
    folder = tmp_path_factory.mktemp("units")
    for number, size in enumerate(sizes):
        write_conll(folder / f"f{number}.conll", size, word=f"f{number}-")
    write(folder / "all.txt", *(f"f{n}-{i} t\n" for n, size in enumerate(sizes) for i in range(size)))
    given_ = {"format": "conll", "parallel": {"spa_Latn": str(folder / "all.txt")}}
    if sample:
        given_["sample"] = {"rows": sample[0], "seed": sample[1]}
    recipe = to_train(folder / "*.conll", unit_rows=unit_rows, input=given_)

    def in_any_order(function: Any, jobs: list[Any]) -> list[Any]:
        return list(map(function, reversed(jobs)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "GRID_BYTES", grid)
        index = build_index(recipe, map_files=in_any_order)
    table = read_all(recipe, index)
    total = sum(sizes)
    assert table.num_rows == (min(sample[0], total) if sample else total)
    assert [unit.n_rows for unit in index.units[:-1]] == [unit_rows] * (len(index.units) - 1)
    expected = [f"f{n}-{i}" for n, size in enumerate(sizes) for i in range(size)]
    for row in table.to_pylist():
        assert row["source_tokens"][0] == expected[row["row"]]
        assert row["text"] == expected[row["row"]] + " t"


def test_limit_stops_the_scan_and_sample_is_stated(tmp_path: Path) -> None:
    path = write_conll(tmp_path / "a.conll", 100)
    scanned: list[int] = []

    def watch(function: Any, jobs: list[Any]) -> Any:
        for scan in map(function, jobs):
            scanned.append(scan.rows)
            yield scan

    recipe = to_train(path, input={"limit": 10}, unit_rows=4)
    index = build_index(recipe, map_files=watch)
    assert scanned == [10]
    assert [unit.n_rows for unit in index.units] == [4, 4, 2]
    assert read_all(recipe, index).column("row").to_pylist() == list(range(10))
    import random

    rows = read_all(to_train(path, input={"sample": {"rows": 5, "seed": 1}})).column("row").to_pylist()
    assert rows == sorted(random.Random(1).sample(range(100), 5))
    few = write(tmp_path / "b.txt", "x\n" * 9)
    with pytest.raises(InputError, match="has 9 sentences"):
        build_index(to_train(path, input={"limit": 10, "parallel": {"spa_Latn": str(few)}}))


def test_a_sample_reads_only_near_its_rows(tmp_path: Path) -> None:
    path = write_conll(tmp_path / "a.conll", 20_000)
    index = build_index(to_train(path, input={"sample": {"rows": 4, "seed": 0}}))
    (unit,) = index.units
    assert len(unit.segments) == 4
    assert all(segment.skip < 2_100 and segment.take == 1 for segment in unit.segments)
    assert pytest.approx(8, abs=1) == unit.n_words


def test_duplicates_across_files(tmp_path: Path) -> None:
    for name, ids in (("a", ["x", "y", "x"]), ("b", ["z", "y", None])):
        rows = [{"tokens": ["w"], "ner_tags": ["O"]} | ({"id": i} if i else {}) for i in ids]
        write(tmp_path / f"{name}.jsonl", *rows)
    recipe = to_train(tmp_path, unit_rows=2)
    index = build_index(recipe)
    assert [unit.duplicates for unit in index.units] == [(), ((2, 0),), ((4, 1),)]
    table = read_all(recipe, index)
    assert reasons(table) == [None, None, "duplicate_id", None, "duplicate_id", None]


def test_a_sample_keeps_the_first_picked_of_an_id(tmp_path: Path) -> None:
    ids = [str(number % 10) for number in range(60)]
    path = write(tmp_path / "a.jsonl", *({"id": i, "tokens": ["w"], "ner_tags": ["O"]} for i in ids))
    for seed in range(5):
        recipe = to_train(path, unit_rows=4, input={"sample": {"rows": 12, "seed": seed}})
        rows = read_all(recipe).sort_by("row").to_pylist()
        seen: dict[str, int] = {}
        for row in rows:
            first = seen.setdefault(row["id"], row["row"])
            assert row["reason"] == (None if first == row["row"] else "duplicate_id")
            assert row["reason"] is None or f"row {first} already has the id" in row["detail"]


def test_units_grow_with_the_input() -> None:
    assert grown_unit_rows([MOST_UNITS], 1) == 1
    assert grown_unit_rows([MOST_UNITS + 1], 1) == 2
    assert grown_unit_rows([100_000_000] * 50, 2048) % 2048 == 0
    for sizes in ([MOST_UNITS * 3 + 1, 1], [7] * 1000, [2048 * MOST_UNITS, 5, 5]):
        rows = grown_unit_rows(sizes, 2)
        assert sum(-(-size // rows) for size in sizes) <= MOST_UNITS


# errors of files


def test_parallel_of_another_length_names_both(tmp_path: Path) -> None:
    path, parallel = write_conll(tmp_path / "a.conll", 3), write(tmp_path / "b.txt", "x\ny\n")
    with pytest.raises(InputError, match=r"b\.txt has 2 sentences, .*a\.conll has 3"):
        build_index(to_train(path, input={"parallel": {"spa_Latn": str(parallel)}}))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.conll", "", "holds no sentence"),
        ("a.conll", "\n \n", "holds no sentence"),
        ("a.conll", "a b\n\n" * 12, r"no column holds tags of entities \(column 2: b\); name it, as in input.columns"),
        ("a.jsonl", '{"txt": "a"}\n' * 12, "no key holds text or tokens; keys: txt"),
        ("a.txt", "hello there\n" * 30, r"a.txt: has no labels \(read as text\); direction train needs labels"),
        (
            "a.jsonl",
            '{"text": "hello", "spans": [[3, 9, "X"]]}\n' * 3,
            r"has no labels \(read as jsonl\) in rows that can be read; 3 of 3 rows will be rejected: bad_span; the "
            r"first: a.jsonl:1: span \[3, 9, 'X'\] is empty or leaves",
        ),
        ("a.txt", "hello\n", r"has no labels \(read as text\)"),
        ("a.conll", "hello\n", r"has no labels \(read as conll\)"),
        ("a.xyz", "hello\n", "cannot be guessed"),
        ("a.parquet", "hello\n", "cannot be read as Parquet"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        build_index(to_train(write(tmp_path / name, content) if content != "" else write(tmp_path / name)))
    assert name in str(error.value)
    assert error.value.exit_status == 2


def test_parquet_without_labels_or_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a"]}), path)
    with pytest.raises(InputError, match=r"column ner_tags \(or spans\) is missing; columns: text"):
        build_index(to_train(path))
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "spans": pa.array([], pa.null())}), path)
    with pytest.raises(InputError, match="holds no sentence"):
        build_index(to_train(path))


def test_a_file_that_changed_is_not_read_as_something_else(tmp_path: Path) -> None:
    path = write_conll(tmp_path / "a.conll", 5)
    recipe = to_train(path)
    index = build_index(recipe)
    write_conll(path, 2)
    with pytest.raises(InputError, match=r"a\.conll: has another size or time"):
        read_all(recipe, index)


def test_a_file_replaced_by_one_of_as_many_rows_is_noticed(tmp_path: Path) -> None:
    path = write_conll(tmp_path / "a.conll", 5)
    parallel = write(tmp_path / "b.txt", "x\n" * 5)
    for changed in (path, parallel):
        recipe = to_train(path, input={"parallel": {"spa_Latn": str(parallel)}})
        index = build_index(recipe)
        assert read_all(recipe, index).num_rows == 5
        os.utime(changed, ns=(1, 1))
        with pytest.raises(InputError, match=rf"{changed.name}: has another size or time.*the same command goes on"):
            read_all(recipe, index)


def test_ids_are_unique_within_their_split(tmp_path: Path) -> None:
    for split in ("train", "dev", "test"):
        rows = [{"tokens": ["w"], "ner_tags": ["O"], "id": str(number)} for number in (0, 1, 0)]
        write(tmp_path / f"{split}.jsonl", *rows)
    table = read_all(to_train(tmp_path, unit_rows=2)).sort_by("row")
    assert reasons(table) == [None, None, "duplicate_id"] * 3


@settings(max_examples=25)
@given(
    form=st.sampled_from(["conll", "jsonl"]),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=2),
    piece=st.sampled_from([16, 64, 256]),
    docs=st.booleans(),
)
def test_any_cut_of_a_file_gives_the_same_index(
    tmp_path_factory: pytest.TempPathFactory, form: str, sizes: list[int], piece: int, docs: bool
) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    for number, size in enumerate(sizes):
        rows = []
        for row in range(size):
            words = [f"ä{row}", "b"][: 1 + row % 2]
            tags = ["B-PER" if row % 3 != 1 else "Q", "O"][: len(words)]
            if form == "jsonl":
                ids = {"id": str(row % 17)} if number else {}
                split = {"split": "test"} if row % 5 == 4 else {}
                rows.append(json.dumps({"tokens": words, "ner_tags": tags, **ids, **split}, ensure_ascii=False) + "\n")
            else:
                start = f"-DOCSTART- -X- {'O' if row % 6 else f'd{row}'}\n\n" if docs and row % 3 == 0 else ""
                lines = "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True))
                rows.append(start + lines + "\n" * (1 + row % 3))
        (folder / f"f{number}.{form}").write_text("".join(rows))
    recipe = to_train(folder, unit_rows=7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scanning, "GRID_BYTES", 16)
        whole = build_index(recipe)
        patch.setattr(scanning, "PIECE_BYTES", piece)
        jobs: list[int] = []

        def map_files(function: Any, given_: list[Any]) -> Any:
            jobs.append(len(given_))
            return map(function, given_)

        assert build_index(recipe, map_files=map_files).to_table().equals(whole.to_table(), check_metadata=True)
    assert jobs[0] > len(sizes) or all(path.stat().st_size <= piece + 100 for path in folder.iterdir())
    assert read_all(recipe, whole).num_rows == sum(sizes)
