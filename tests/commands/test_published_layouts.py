"""Which file of a published folder is which language's; and messages where a folder is none of them."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import HubServer
from published_folders import ENGLISH, SWAHILI, archive, europarl, lines, masakhaner, parquet, put
from reading import read_all

from xner_ray.commands.reproduce.layouts import content, find
from xner_ray.commands.reproduce.published import languages
from xner_ray.errors import InputError, StorageError
from xner_ray.recipe.load import load_recipe
from xner_ray.storage import hub as hub_files

RAW = lines(SWAHILI, between="\t", lang="sw")
AF = lines(ENGLISH, between="\t", lang="af")


def _find(name: str, folder: Path | str) -> dict[str, str]:
    found = find(name, str(folder), languages(name))
    return {code: file.path.removeprefix(str(folder)).lstrip("/") for code, file in found.files.items()}


def test_masakhaner_as_its_repository_has_it(tmp_path: Path) -> None:
    folder = masakhaner(tmp_path, "swa", "pcm", "bam")
    put(folder / "MasakhaNER2.0/data/hau/train.txt", lines(SWAHILI))
    expected = {code: f"MasakhaNER2.0/data/{code}/test.txt" for code in ("bam", "swa", "pcm")}  # the paper's first
    assert _find("masakhaner", folder) == expected
    inside = {code: path.removeprefix("MasakhaNER2.0/data/") for code, path in expected.items()}
    assert _find("masakhaner", folder / "MasakhaNER2.0/data") == inside
    found = find("masakhaner", str(folder), languages("masakhaner"))
    assert found.without_test == ["hau"] and len(found.absent) == 15
    assert {file.lang for file in found.files.values()} == {"bam_Latn", "swh_Latn", "pcm_Latn"}
    with pytest.raises(
        InputError, match=r"has amh, so it is MasakhaNER 1\.0; the paper's is 2\.0, in MasakhaNER2.0/data"
    ):
        _find("masakhaner", folder / "data")


def test_a_file_a_language_by_their_codes_or_by_ours(tmp_path: Path) -> None:
    for name in ("swa.txt", "lug_Latn.conll", "notes.txt", "swa.md"):
        put(tmp_path / name, lines(SWAHILI))
    assert _find("masakhaner", tmp_path) == {"lug": "lug_Latn.conll", "swa": "swa.txt"}
    assert not any(file.layout.split for file in find("masakhaner", str(tmp_path), ["swa"]).files.values())


@pytest.mark.parametrize("name", ["test-00000-of-00001.parquet", "test/0000.parquet", "masakhaner2-test.parquet"])
def test_the_hubs_parquet(name: str, tmp_path: Path) -> None:
    put(tmp_path / "swa" / name, parquet(SWAHILI))
    put(tmp_path / "swa" / name.replace("test", "train"), parquet(SWAHILI))
    assert _find("masakhaner", tmp_path) == {"swa": f"swa/{name}"}
    put(tmp_path / "swa/test-00001-of-00002.parquet", parquet(SWAHILI))
    with pytest.raises(InputError, match="swa has 2 test files; leave one, or name its folder"):
        _find("masakhaner", tmp_path)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"sw/test": RAW, "sw/train": RAW, "als/test": RAW}, {"sw": "sw/test"}),
        ({"panx_dataset/sw-test": RAW, "panx_dataset/sw-dev": RAW}, {"sw": "panx_dataset/sw-test"}),
        ({"sw.tar.gz": archive({"train": AF, "test": RAW})}, {"sw": "sw.tar.gz"}),
        ({"sw/test": RAW, "sw.tar.gz": b"", "af.tar.gz": archive({"test": AF})}, {"af": "af.tar.gz", "sw": "sw/test"}),
        ({"PAN-X.sw/test-00000-of-00001.parquet": parquet(SWAHILI)}, {"sw": "PAN-X.sw/test-00000-of-00001.parquet"}),
        ({"sw/test-00000-of-00001.parquet": parquet(SWAHILI)}, {"sw": "sw/test-00000-of-00001.parquet"}),
        ({"panx/test-sw.tsv": lines(SWAHILI, between="\t")}, {"sw": "panx/test-sw.tsv"}),
    ],
    ids=["folders", "XTREME's unpacked", "archives", "both", "PAN-X.sw", "wikiann of the hub", "with labels"],
)
def test_wikiann_and_panx(files: dict[str, str | bytes], expected: dict[str, str], tmp_path: Path) -> None:
    for name, data in files.items():
        put(tmp_path / name, data)
    assert _find("wikiann", tmp_path) == expected


@pytest.mark.parametrize("name", ["panx/test-sw.tsv", "panx_processed/sw/test.bert-base-multilingual-cased"])
def test_xtremes_test_split_without_labels_is_refused(name: str, tmp_path: Path) -> None:
    put(tmp_path / name, "Anna\nanaishi\n\nBerlin\n")
    with pytest.raises(InputError, match=r"has no labels; XTREME's script deletes those of the test split, so take"):
        _find("wikiann", tmp_path)


def test_an_archive_is_unpacked_in_memory(tmp_path: Path) -> None:
    put(tmp_path / "sw.tar.gz", archive({"./dev": AF, "./test": RAW, "./extra": AF}))
    file = find("wikiann", str(tmp_path), ["sw"]).files["sw"]
    assert content(file) == RAW.encode()
    put(tmp_path / "sw.tar.gz", archive({"train": AF}))
    with pytest.raises(InputError, match=r"sw\.tar\.gz: holds no file test; fetch it again"):
        content(file)
    put(tmp_path / "sw.tar.gz", archive({"test": RAW})[:40])
    with pytest.raises(StorageError, match=r"sw\.tar\.gz: cannot be read \(Truncated"):
        content(file)
    put(tmp_path / "sw.tar.gz", gzip.compress(b"no archive" * 99))
    with pytest.raises(InputError, match=r"sw\.tar\.gz: cannot be unpacked"):
        content(file)


def test_europarl(tmp_path: Path) -> None:
    assert set(_find("europarl", europarl(tmp_path))) == {"en", "es"}
    assert find("europarl", str(tmp_path), ["de", "es"]).absent == ["de"]


@pytest.mark.parametrize("name", ["masakhaner", "wikiann", "europarl"])
def test_a_folder_of_something_else(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such folder$"):
        _find(name, tmp_path / "nowhere")
    put(tmp_path / "src/main.c", "int main;\n")
    with pytest.raises(InputError, match=rf"holds no {name} as it is published; looked for \S+CODE|CODE/test"):
        _find(name, tmp_path)


def test_several_copies_in_one_folder(tmp_path: Path) -> None:
    for copy in ("one", "two"):
        put(tmp_path / copy / "sw/test", RAW)
    with pytest.raises(InputError, match=r"holds CODE/test in 2 folders \(one/, two/\); name one of them"):
        _find("wikiann", tmp_path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    server = HubServer()
    server.join(monkeypatch, tmp_path / "cache")
    hub_files._blocks.clear()
    yield server
    server.close()


def test_a_data_set_of_the_hub(hub: HubServer, tmp_path: Path) -> None:
    files = {f"{code}/test-00000-of-00001.parquet": parquet(SWAHILI) for code in ("swa", "zul")}
    hub.put("datasets/masakhane/masakhaner2", {**files, "README.md": b"# a card"})
    found = find("masakhaner", "hf://datasets/masakhane/masakhaner2", languages("masakhaner"))
    assert list(found.files) == ["swa", "zul"]
    assert content(found.files["zul"]) == parquet(SWAHILI)


@pytest.mark.parametrize(("name", "data"), [("a.conll", RAW.encode()), ("a.parquet", parquet(SWAHILI))])
def test_the_copies_are_read_as_what_they_are(name: str, data: bytes, tmp_path: Path) -> None:
    put(tmp_path / name, data)
    form = "parquet" if name.endswith("parquet") else "conll"
    given = {"path": str(tmp_path / name), "lang": "swh_Latn", "format": form}
    recipe = load_recipe({"direction": "test", "input": given, "tag": {"engine": "builtin"}})
    rows = read_all(recipe).to_pylist()
    assert [row["tokens"] for row in rows] == [[word for word, _ in one] for one in SWAHILI]
    spans = [[(span["start"], span["end"], span["label"]) for span in row["gold_spans"]] for row in rows]
    assert spans == [[(0, 1, "PER"), (2, 3, "LOC")], [(2, 3, "LOC")]]
