"""Data sets of the hub as inputs, against a hub on loopback: addresses, commits, ranges, refusals."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import HubServer, serving_data

from xner_ray.errors import InputError, RetryableError, StorageError
from xner_ray.read.find import contents, find_files
from xner_ray.read.index.build import build_index
from xner_ray.read.inputs import find_texts
from xner_ray.read.record import File
from xner_ray.read.records import read_records
from xner_ray.read.rows import ReadPlan, read_unit
from xner_ray.recipe.columns import Columns
from xner_ray.recipe.load import load_recipe
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.storage import hub, sums

NER = "hf://datasets/owner/ner"
CONLL = b"Ann\tB-PER\nsings\tO\n\n"


def _parquet(rows: int, group: int = 1000, start: int = 0) -> bytes:
    """A file as `datasets` uploads it: small row groups."""
    words = [[f"w{number}", "Ann", f"x{number * 7919 % 100_003}"] for number in range(start, start + rows)]
    tags = [["O", "B-PER", "O"]] * rows
    sink = io.BytesIO()
    table = pa.table({"id": [str(n) for n in range(start, start + rows)], "tokens": words, "ner_tags": tags})
    pq.write_table(table, sink, row_group_size=group)
    return sink.getvalue()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    yield from serving_data(tmp_path, monkeypatch)


def found(path: str, **options: Any) -> list[File]:
    given = {"format": None, "lang": "swh_Latn", "side": "source", "columns": Columns()} | options
    return find_files(path, **given)


def names(path: str, **options: Any) -> list[tuple[str, str]]:
    return [(file.split, file.name) for file in found(path, **options)]


ORDINARY = {
    "README.md": b"---\n---\n# a card",
    ".gitattributes": b"*.parquet filter=lfs",
    "data/train-00000-of-00002.parquet": _parquet(3),
    "data/train-00001-of-00002.parquet": _parquet(3, start=3),
    "data/validation-00000-of-00001.parquet": _parquet(2, start=6),
}


def test_the_ordinary_layout_is_read_with_its_splits(server: HubServer) -> None:
    commit = server.put("datasets/owner/ner", ORDINARY)
    files = found(NER)
    assert [(file.split, file.name) for file in files] == [
        ("train", "train-00000-of-00002.parquet"),
        ("train", "train-00001-of-00002.parquet"),
        ("validation", "validation-00000-of-00001.parquet"),
    ]
    assert files[0].path == f"{NER}@{commit}/data/train-00000-of-00002.parquet"
    assert [record.id for file in files for _, record in read_records(file)] == [str(n) for n in range(8)]
    assert found(f"{NER}/") == found(f"{NER}/data") == found(f"{NER}/data/*.parquet") == files
    assert names(f"{NER}/data/train-*") == names(NER)[:2]
    assert names(f"{NER}/data/validation-00000-of-00001.parquet") == [("train", "validation-00000-of-00001.parquet")]


def test_a_listing_of_several_pages_is_whole(server: HubServer) -> None:
    server.page = 3
    server.put("datasets/owner/ner", {f"data/train-{n}.conll": CONLL for n in range(8)})
    assert names(NER) == [("train", f"train-{n}.conll") for n in range(8)]


def test_revisions_are_branches_tags_commits_and_refs(server: HubServer) -> None:
    first = server.put("datasets/owner/ner", {"a.conll": CONLL}, "v1")
    second = server.put("datasets/owner/ner", {"a.conll": CONLL * 2}, "fix/ids")
    third = server.put("datasets/owner/ner", {"default/train/0000.parquet": _parquet(2)}, "refs/convert/parquet")
    for revision, commit in [
        ("v1", first),
        (first, first),
        ("fix%2Fids", second),
        ("refs/convert/parquet", third),
        ("refs%2Fconvert%2Fparquet", third),
    ]:
        (file,) = found(f"{NER}@{revision}")
        assert file.path.startswith(f"{NER}@{commit}/"), revision
    with pytest.raises(InputError, match=r"owner/ner@v2: the hub has the data set, but no revision 'v2'"):
        found(f"{NER}@v2")
    with pytest.raises(InputError, match=f"no revision '{'0' * 40}'"):
        found(f"{NER}@{'0' * 40}/a.conll")


def test_names_with_signs_of_addresses_survive(server: HubServer) -> None:
    server.put("datasets/owner/ner", {"in/50%?#@ é.conll": CONLL})
    (file,) = found(f"{NER}/in")
    assert file.name == "50%25%3F%23@ é.conll"
    assert len(list(read_records(file))) == 1
    assert found(f"{NER}/in/50%25%3F%23@ é.conll") == [file]


def test_a_language_chooses_a_configuration_or_a_data_set(server: HubServer) -> None:
    server.put("datasets/owner/ner", {f"{lang}/train-0.parquet": _parquet(1) for lang in ("swh_Latn", "hau_Latn")})
    assert names(f"{NER}/{{lang}}") == [("train", "train-0.parquet")]
    assert "/swh_Latn/" in found(f"{NER}/{{lang}}/train-*.parquet")[0].path
    server.put("datasets/owner/wiki-swh_Latn", {"test.conll": CONLL})
    assert names("hf://datasets/owner/wiki-{lang}") == [("test", "test.conll")]


def test_several_configurations_are_not_mixed(server: HubServer) -> None:
    folders = ("data/sw", "data/ha")
    files = {f"{folder}/{split}-0.parquet": _parquet(1) for folder in folders for split in ("train", "test")}
    server.put("datasets/owner/ner", files)
    message = (
        r"files lie in 2 folders, .*\(data/ha, data/sw\); name one, as hf://datasets/owner/ner@\w+/data/sw, or {lang}"
    )
    with pytest.raises(InputError, match=message):
        found(NER)
    assert names(f"{NER}/data/sw") == [("train", "train-0.parquet"), ("test", "test-0.parquet")]
    assert len(names(f"{NER}/**/*.parquet")) == 4
    server.put("datasets/owner/ner", {f"{split}/0.parquet": _parquet(1) for split in ("train", "test")})
    hub.begin()
    assert [split for split, _ in names(NER)] == ["train", "test"]


def test_a_loading_script_is_said_to_be_one(server: HubServer) -> None:
    server.put("datasets/owner/ner", {"README.md": b"", "ner.py": b"import datasets"})
    with pytest.raises(InputError, match=r"holds a loading script \(ner\.py\) and .*@refs/convert/parquet has"):
        found(NER)


def test_a_command_reads_one_commit(server: HubServer) -> None:
    first = server.put("datasets/owner/ner", {"a.conll": CONLL})
    one = found(NER)
    second = server.put("datasets/owner/ner", {"a.conll": CONLL * 2})
    assert found(NER) == one
    assert len(list(read_records(one[0]))) == 1
    assert hub.commits() == {"owner/ner@main": first}
    assert len(server.asked()) == 1
    load_recipe({"input": {"path": NER}, "targets": ["spa_Latn"]})  # another command
    (file,) = found(NER)
    assert second in file.path and len(list(read_records(file))) == 2
    assert file.stamp != one[0].stamp
    hub.begin({"owner/ner@main": first})  # one that resumes
    assert found(NER) == one


def test_names_of_files_do_not_change_with_the_commit(server: HubServer) -> None:
    given = {}
    for name in ("a", "b"):
        server.put(f"datasets/owner/{name}", {"x.conll": CONLL})
        given[{"a": "train", "b": "test"}[name]] = f"hf://datasets/owner/{name}"
    assert [file.name for file in found(given)] == ["a/x.conll", "b/x.conll"]


def test_the_identity_is_that_of_the_same_file_elsewhere(server: HubServer, tmp_path: Path) -> None:
    """What the hub states of a file of git LFS is not read; others are, once for all commits."""
    data = _parquet(5)
    server.put("datasets/owner/ner", {"train.parquet": data, "test.conll": CONLL})
    expected = {
        "train/train.parquet": f"parquet sha256:{hashlib.sha256(data).hexdigest()}",
        "test/test.conll": f"conll sha256:{hashlib.sha256(CONLL).hexdigest()}",
    }
    for fmt, split in (("parquet", "train"), ("conll", "test")):
        key = f"{split}/{split}.{fmt}"
        files = found({split: f"{NER}/{split}.{fmt}"})
        assert contents(files) == {key: expected[key]}
        (tmp_path / f"{split}.{fmt}").write_bytes(data if fmt == "parquet" else CONLL)
        assert contents(found({split: str(tmp_path / f"{split}.{fmt}")})) == {key: expected[key]}
    read = [path for path, _ in server.ranges]
    assert len(read) == 1 and read[0].endswith("/test.conll")
    server.put("datasets/owner/ner", {"moved.conll": CONLL, "README.md": b"another commit"})
    hub.begin()
    assert sums.sums([found(f"{NER}/moved.conll")[0].path]) == [hashlib.sha256(CONLL).hexdigest()]
    assert len(server.ranges) == 2  # its first bytes, by which the format is told


def _read(path: str) -> None:
    for file in found(path):
        list(read_records(file))


def _refusal(path: str) -> str:
    with pytest.raises(InputError) as error:
        _read(path)
    assert "\n" not in str(error.value) and NER in str(error.value)
    return str(error.value)


def test_what_is_not_there_is_said(server: HubServer) -> None:
    server.put("datasets/owner/ner", {"a.conll": CONLL})
    assert "no such file or folder" in _refusal(f"{NER}/b.conll")
    assert "no file matches" in _refusal(f"{NER}/*.parquet")
    message = _refusal("hf://datasets/owner/ner-2")
    assert "no such data set on the hub (http" in message
    assert "or it is private and a token is missing: give one by HF_TOKEN" in message


@pytest.mark.parametrize(
    "address",
    [
        "hf://datasets",
        "hf://datasets/squad",
        "hf://owner/model/a.conll",
        "hf://spaces/owner/x",
        f"{NER}?revision=v1",
        f"{NER}*",
    ],
)
def test_addresses_of_something_else_are_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"no data set of the hub; write hf://datasets/owner/name, "):
        storage.locate(address)


def test_secrets_in_addresses_are_refused_unseen() -> None:
    for address in ("hf://hf_geheim@datasets/owner/ner", f"{NER}?token=geheim"):
        with pytest.raises(InputError, match=r"holds a secret .*HF_TOKEN") as error:
            storage.locate(address)
        assert "geheim" not in str(error.value)


def test_private_data_takes_the_token(server: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    server.put("datasets/owner/ner", {"train.parquet": _parquet(2)})
    server.private.add("datasets/owner/ner")
    assert "give one by HF_TOKEN in the environment" in _refusal(NER)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    message = _refusal(NER)
    assert "the hub refuses (HTTP status 401)" in message and "hf_wrong" not in message
    monkeypatch.setenv("HF_TOKEN", server.may)
    assert len(list(read_records(found(NER)[0]))) == 2
    monkeypatch.delenv("HF_TOKEN")
    (tmp_path / "no-token").write_text(server.may)  # the file of `hf auth login`
    hub.begin()
    assert len(found(NER)) == 1


@pytest.mark.parametrize("name", ["train.parquet", "train.conll"])
def test_gated_data_says_whose_consent_is_needed(server: HubServer, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server.put("datasets/owner/ner", {name: _parquet(2) if name.endswith("parquet") else CONLL * 2})
    server.gated.add("datasets/owner/ner")
    message = _refusal(NER)
    assert f"/{name}: is gated" in message and "Accept its terms on the page of owner/ner" in message
    monkeypatch.setenv("HF_TOKEN", server.may)
    assert len(list(read_records(found(NER)[0]))) == 2


def test_a_right_that_is_missing_is_not_asked_for_twice(server: HubServer) -> None:
    server.put("datasets/owner/ner", {"a.conll": CONLL})
    server.fault = lambda method, path: 403 if "/resolve/" in path else 0
    assert "the hub refuses (HTTP status 403): the token may be" in _refusal(NER)
    assert len([path for _, path in server.requests if "/resolve/" in path]) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503, 504])
def test_what_fails_for_a_while_is_tried_again(server: HubServer, status: int) -> None:
    server.put("datasets/owner/ner", {"train.parquet": _parquet(2)})
    failed: set[str] = set()

    def once(method: str, path: str) -> int:
        first = path not in failed
        failed.add(path)
        return status if first else 0

    server.fault = once
    assert len(list(read_records(found(NER)[0]))) == 2
    assert len(failed) == 4  # revision, tree, file, its content


@pytest.mark.parametrize("where", ["/revision/", "/paths-info/", "/tree/", "/resolve/", "/cdn/"])
def test_after_the_last_try_there_is_one_message(server: HubServer, where: str) -> None:
    server.put("datasets/owner/ner", {"data/train.parquet": _parquet(2)})
    server.fault = lambda method, path: 429 if where in path else 0
    message = (
        r"hf://datasets/owner/ner.*does not answer.*HTTP status 429.*same command resumes; a token raises its limit"
    )
    with pytest.raises(RetryableError, match=message):
        _read(f"{NER}/data")
    assert len([path for _, path in server.requests if where in path]) == 6


@pytest.mark.slow
def test_a_hub_that_is_gone_or_refused_is_one_message(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.put("datasets/owner/ner", {"a.conll": CONLL})
    (file,) = found(NER)
    server.online(monkeypatch, offline=True)
    assert "HF_HUB_OFFLINE is set" in _refusal(f"{NER}/more") and "unset it" in _refusal(f"{NER}/more")
    assert "`hf download owner/ner --repo-type dataset --local-dir FOLDER`" in _refusal(f"{NER}/more")
    server.online(monkeypatch)
    server.close()
    hub._blocks.clear()  # else the reader needs no hub
    for call in (lambda: found(f"{NER}/more"), lambda: list(read_records(file)), lambda: sums.read_sum(file.path)):
        with pytest.raises(RetryableError, match=r"does not answer.*or run `hf download owner/ner"):
            call()


def test_answers_without_ranges_are_no_content(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_BLOCK_BYTES", 8)
    server.put("datasets/owner/ner", {"a.conll": CONLL})
    monkeypatch.setattr(
        "hub_server.Handler._part", lambda self, data, of, **headers: self._answer(200, data, **headers)
    )
    with pytest.raises(RetryableError, match=rf"{len(CONLL)} bytes came for the 8 .*knows no ranges"):
        storage.read_range(f"{NER}/a.conll", 0, 4)


def test_nothing_is_written_there(server: HubServer, tmp_path: Path) -> None:
    server.put("datasets/owner/ner", {"a.conll": CONLL})
    (tmp_path / "a").write_text("x")
    for call in (
        lambda: storage.publish(f"{NER}/b", b"x"),
        lambda: storage.delete(f"{NER}/a.conll"),
        lambda: storage.copy({"b": str(tmp_path / "a")}, NER),
    ):
        with pytest.raises(InputError, match=r"read, never written; name a folder, s3:// or gs://"):
            call()
    with pytest.raises(InputError, match=r"^hf://datasets/owner/run: data sets of the hub are read, never written"):
        RunFolder("hf://datasets/owner/run")


def test_a_file_is_read_by_ranges(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any block's size gives the same bytes, from any place on."""
    data = bytes(range(256)) * 5
    server.put("datasets/owner/ner", {"a.bin": data})
    for size in (100, 256, 4096):
        monkeypatch.setattr(hub, "_BLOCK_BYTES", size)
        hub._blocks.clear()
        assert storage.read_range(f"{NER}/a.bin", 300, 40) == data[300:340]
        assert storage.read_bytes(f"{NER}/a.bin") == data
    with pytest.raises(StorageError, match="ends at byte 1280, before 1290"):
        storage.read_range(f"{NER}/a.bin", 1270, 20)


def test_a_unit_fetches_its_blocks_alone(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A footer and the row groups of the unit: no whole file, and no request a column."""
    monkeypatch.setattr(hub, "_BLOCK_BYTES", 16 << 10)
    data = _parquet(20_000)
    server.put("datasets/owner/ner", {"train.parquet": data})
    recipe = load_recipe({"input": {"path": NER}, "targets": ["swh_Latn"], "engine": {"unit_rows": 500}})
    index = build_index(recipe, compare=False)
    hub._blocks.clear()
    server.ranges.clear()
    server.requests.clear()
    unit = index.units[len(index.units) // 2]
    table = read_unit(unit, ReadPlan(recipe, index.extra))
    assert table.column("id").to_pylist()[0] == str(unit.start)
    fetched = sum(size for _, size in server.ranges)
    assert len(data) > 3 * fetched  # pyarrow takes 64 KiB for a footer
    assert len(server.ranges) <= 5 and len(server.requests) <= 2 * len(server.ranges)


def test_parallel_text_and_links_may_be_there(server: HubServer) -> None:
    files = {"in.conll": CONLL, "out.txt": b"Ann canta\n", "links.txt": b"0-0 1-1\n"}
    server.put("datasets/owner/ner", files)
    given = {"path": f"{NER}/in.conll", "parallel": {"spa_Latn": f"{NER}/out.txt"}, "links": f"{NER}/links.txt"}
    recipe = load_recipe({"input": given, "targets": ["spa_Latn"], "align": {"backend": "provided"}})
    _, parallel, links = find_texts(recipe)
    assert [text["spa_Latn"].files[0].name for text in (parallel, links)] == ["out.txt", "links.txt"]
    (unit,) = build_index(recipe).units
    assert read_unit(unit, ReadPlan(recipe, [])).num_rows == 1
