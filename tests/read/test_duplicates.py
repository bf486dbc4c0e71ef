"""Rows that repeat an id, against a dictionary of all ids."""

import json
import pickle
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray.errors import InputError, StorageError
from xner_ray.read.index import duplicates
from xner_ray.read.index.build import build_index
from xner_ray.read.index.scan import ScanJob, scan_file
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.model import Recipe
from xner_ray.storage import files as storage

Row = tuple[str | None, str | None]  # id, split


def _recipe(path: Path, *, unit_rows: int = 5, **options: Any) -> Recipe:
    given_ = {"path": str(path), **options}
    return Recipe.model_validate({"input": given_, "targets": ["spa_Latn"], "engine": {"unit_rows": unit_rows}})


def _file(path: Path, rows: list[Row]) -> None:
    found = [{"tokens": ["w"], "ner_tags": ["O"], "id": i, "split": split} for i, split in rows]
    lines = [json.dumps({key: value for key, value in row.items() if value is not None}) for row in found]
    path.write_text("\n".join(lines))


def _expected(files: list[list[Row]], chosen: list[int]) -> dict[int, int]:
    """Row -> the first of the chosen rows with its id in its split. What has no id of its own repeats none."""
    rows = [row for file in files for row in file]
    ids = [object() if name is None else (split or "train", name) for name, split in rows]
    first: dict[object, int] = {}
    return {row: first[ids[row]] for row in chosen if first.setdefault(ids[row], row) != row}


_ROWS = st.lists(
    st.tuples(st.none() | st.sampled_from(["a", "b", "c", "d"]), st.sampled_from([None, "test"])),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60)
@given(
    files=st.lists(_ROWS, min_size=1, max_size=4),
    sizes=st.tuples(st.sampled_from([1, 3, 1000]), st.sampled_from([1, 4, 1000])),
    chosen=st.none()
    | st.fixed_dictionaries({"limit": st.integers(1, 60)})
    | st.fixed_dictionaries({"sample": st.fixed_dictionaries({"rows": st.integers(1, 40), "seed": st.integers(0, 3)})}),
)
def test_the_same_duplicates_as_by_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory,
    files: list[list[Row]],
    sizes: tuple[int, int],
    chosen: dict[str, Any] | None,
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    for number, rows in enumerate(files):
        _file(folder / f"f{number}.jsonl", rows)
    options = chosen or {}

    def map_files(function: Any, jobs: list[Any]) -> list[Any]:
        copies = [pickle.loads(pickle.dumps(job)) for job in reversed(jobs)]  # on other machines, in any order
        return [pickle.loads(pickle.dumps(function(job))) for job in copies]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "PIECE_ROWS", sizes[0])
        patch.setattr(duplicates, "RANGE_ROWS", sizes[1])
        index = build_index(_recipe(folder, **options), map_files=map_files)
    limit, sample = options.get("limit", 1000), options.get("sample", {"rows": 1000, "seed": 0})
    total = min(sum(map(len, files)), limit)
    picked = list(range(total))
    if sample["rows"] < total:
        picked = sorted(random.Random(sample["seed"]).sample(range(total), sample["rows"]))
    found = dict(pair for unit in index.units for pair in unit.duplicates)
    assert found == _expected([rows[:limit] for rows in files], picked)
    splits = [split or "train" for rows in files for _, split in rows]
    for unit in index.units:
        rows = unit.picked if unit.picked is not None else range(unit.start, unit.stop)
        assert {splits[row] for row in rows} == {unit.split}
        assert {row for row, _ in unit.duplicates} <= set(rows)
    assert sum(unit.n_rows for unit in index.units) == len(picked)


def test_one_id_for_all_rows(tmp_path: Path) -> None:
    _file(tmp_path / "a.jsonl", [("same", None)] * 12)
    recipe = _recipe(tmp_path)
    index = build_index(recipe)
    assert [unit.duplicates for unit in index.units] == [
        tuple((row, 0) for row in range(max(1, start), stop)) for start, stop in ((0, 5), (5, 10), (10, 12))
    ]
    status = [s for unit in index.units for s in read_unit(unit, ReadPlan(recipe, index.extra))["status"].to_pylist()]
    assert status == ["ok"] + ["rejected"] * 11


def test_half_equal_hashes_are_not_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Known:
        def __init__(self, data: bytes, digest_size: int) -> None:
            self.data = data.rjust(digest_size, b"-")

        def digest(self) -> bytes:
            return self.data

    monkeypatch.setattr(duplicates, "blake2b", Known)
    writer = duplicates.IdWriter(str(tmp_path), 3)
    for name in ("x123456", "y123456", "x123456", "x123457", "y123456"):  # behind the split's end
        writer.add("", name.ljust(15, "z"))  # equal in the second half
    writer.add("", "x123456".ljust(15, "a"))  # in the first
    (job,) = duplicates.compare_jobs("eng_Latn", writer.close(), 6)
    found = duplicates.compare_ids(job)
    pairs = [
        [part.tolist() for part in duplicates.places(keys)] for keys in (np.sort(found.rows), np.sort(found.firsts))
    ]
    assert pairs == [[[3, 3], [2, 4]], [[3, 3], [0, 1]]]


@pytest.mark.parametrize("n_rows", [1, duplicates.RANGE_ROWS, 3 * duplicates.RANGE_ROWS, 10**10])
def test_comparisons_hold_each_bucket_once(n_rows: int) -> None:
    jobs = list(duplicates.compare_jobs("eng_Latn", ("a", "b"), n_rows))
    assert [bucket for job in jobs for bucket in range(job.first, job.stop)] == list(range(256))
    assert len(jobs) == min(256, -(-n_rows // duplicates.RANGE_ROWS))
    assert not list(duplicates.compare_jobs("eng_Latn", (), n_rows))


def test_the_folder_of_hashes_is_used_and_emptied(tmp_path: Path) -> None:
    _file(tmp_path / "a.jsonl", [("a", None), ("b", None), ("a", None)])
    folder = tmp_path / "run/ids"
    seen = []

    def map_files(function: Any, jobs: list[Any]) -> list[Any]:
        answers = list(map(function, jobs))
        seen.append([path.stat().st_size for path in folder.rglob("*-*") if path.is_file() and path.parent != folder])
        return answers

    recipe = _recipe(tmp_path / "a.jsonl")
    folder.mkdir(parents=True)
    (folder / "of-another-driver").write_text("x")  # which may be alive
    index = build_index(recipe, map_files=map_files, folder=str(folder))
    assert [unit.duplicates for unit in index.units] == [((2, 0),)]
    assert seen == [[256 * 8 + 3 * 24]] * 2
    assert [path.name for path in folder.iterdir()] == ["of-another-driver"]
    (folder / "of-another-driver").unlink()
    (unit,) = build_index(recipe, map_files=map_files, folder=str(folder), compare=False).units
    assert (unit.duplicates, seen[2:]) == ((), [[]])
    (tmp_path / "a.jsonl").write_text('{"id": "a", "nothing": 1}\n' * 12)
    with pytest.raises(InputError, match=r"no key holds text or tokens; keys: id .a word., nothing"):
        build_index(recipe, map_files=map_files, folder=str(folder))
    assert not folder.exists()


def test_what_a_scan_answers_is_small(tmp_path: Path) -> None:
    _file(tmp_path / "a.jsonl", [(f"row {n}", "test" if n > 5_000 else "train") for n in range(10_000)])
    jobs: list[ScanJob] = []
    sizes = []

    def map_files(function: Any, given_: list[Any]) -> list[Any]:
        jobs.extend(given_)
        answers = list(map(function, given_))
        sizes.append(len(pickle.dumps(answers)))
        return answers

    index = build_index(_recipe(tmp_path), map_files=map_files)
    assert sizes[0] < 12_000 and sizes[1] < 1_000  # a byte a row would be more
    assert {unit.split for unit in index.units} == {"train", "test"}
    scan = scan_file(replace(jobs[0], ids=str(tmp_path / "ids")))
    assert (len(scan.splits), list(scan.split_ends), len(scan.pieces)) == (2, [5_001, 10_000], 1)


def test_a_piece_that_is_cut_short_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"0123456789")
    assert storage.read_range(str(path), 2, 3) == b"234"
    assert storage.read_range(str(path), 10, 0) == b""
    with pytest.raises(StorageError, match=r"ends at byte 10, before 12"):
        storage.read_range(str(path), 8, 4)
