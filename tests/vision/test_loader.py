"""References that nobody trusts -> places; places -> pictures, each file read once and each content decoded once."""

import errno
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import HARMFUL, photo, plain
from s3_server import S3Server

from xner_ray.errors import RetryableError
from xner_ray.storage import files as storage
from xner_ray.vision import loader as loading
from xner_ray.vision.loader import Loaded, Loader
from xner_ray.vision.pixels import Fault
from xner_ray.vision.references import Place, References


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A folder of input with pictures, a root beside it, and what no row may reach."""
    for name in ("in/img", "root", "secret"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "in/img/a.png").write_bytes(plain("red"))
    (tmp_path / "root/b.png").write_bytes(plain("blue"))
    (tmp_path / "secret/c.png").write_bytes(plain("green"))
    (tmp_path / "in/link.png").symlink_to(tmp_path / "secret/c.png")
    (tmp_path / "in/door").symlink_to(tmp_path / "secret")
    (tmp_path / "in/inner.png").symlink_to("img/a.png")
    (tmp_path / "in-beside").mkdir()
    (tmp_path / "in-beside/d.png").write_bytes(plain("white"))
    return tmp_path


def _references(house: Path, *roots: str) -> References:
    return References(str(house / "in"), [str(house / "in")], [str(house / root) for root in roots])


def _flag(found: Place | Fault) -> str:
    return str(found.flag) if isinstance(found, Fault) else "found"


def test_relative_paths_are_found_below_the_input_and_the_roots(house: Path) -> None:
    find = _references(house, "root").find
    assert find("img/a.png") == find("img/../img/a.png") == find("inner.png") == Place(str(house / "in/img/a.png"))
    assert find("b.png") == find("../root/b.png") == Place(str(house / "root/b.png"))
    assert find(str(house / "root/b.png")) == find((house / "root/b.png").as_uri()) == find("b.png")


@pytest.mark.parametrize(
    "reference",
    [
        *("../secret/c.png", "img/../../secret/c.png", "link.png", "door/c.png", "../in-beside/d.png", "."),
        *(
            "/etc/passwd",
            "~/x.png",
            "file:///etc/passwd",
            "http://127.0.0.1:9/x.png",
            "https://h/x.png",
            "ftp://h/x.png",
        ),
        *("HTTP://h/x", "data:image/png;base64,iVBORw0KGgo=", "javascript:alert(1)", "//h/x.png", "\\\\h\\x.png"),
        *("s3://bucket/x.png", "gs://bucket/x.png", "hf://datasets/a/b/x.png", "s3://u:p@bucket/x.png", "a\0b.png"),
        *("H" * 2000 + "://h/x", "s3:" + "//" * 900, "\ud800.png", "../secret/t.parquet#3", "/dev/zero", "img"),
    ],
)
def test_what_lies_elsewhere_is_refused(house: Path, reference: str) -> None:
    assert _flag(_references(house, "root").find(reference)) == "image_refused"


@pytest.mark.parametrize(
    "reference", ["no.png", "img/a.png/x", "n" * 300, "<script>.png", "$(touch x).png", "a b\n.png"]
)
def test_what_is_not_there_is_missing(house: Path, reference: str) -> None:
    assert _flag(_references(house, "root").find(reference)) == "image_missing"


def test_an_absolute_path_below_the_input_alone_is_refused(house: Path) -> None:
    assert _flag(_references(house).find(str(house / "in/img/a.png"))) == "image_refused"


def test_pipes_and_devices_are_refused(house: Path) -> None:
    os.mkfifo(house / "in/pipe.png")
    (house / "in/zero.png").symlink_to("/dev/zero")
    assert _flag(_references(house).find("pipe.png")) == _flag(_references(house).find("zero.png")) == "image_refused"


@pytest.mark.parametrize("reference", ["/net/host/x.png", "../net/x.png", "//host/x.png", "file:///net/host/x.png"])
def test_nothing_elsewhere_is_looked_at(house: Path, monkeypatch: pytest.MonkeyPatch, reference: str) -> None:
    """Where disks are mounted on demand, a look is a request to a host of the row's choice."""
    looked: list[str] = []
    real = os.path.realpath
    monkeypatch.setattr("os.path.realpath", lambda path: looked.append(str(path)) or real(path))
    assert _flag(_references(house, "root").find(reference)) == "image_refused"
    assert set(looked) <= {str(house / "in"), str(house / "root")}


def test_what_takes_the_place_of_a_file_is_not_opened(house: Path) -> None:
    """Between the look at a file and its reading: a pipe would never answer, and a link may lead anywhere."""
    loader = _loader(house)
    paths = [house / "in" / name for name in ("pipe.png", "other.png")]
    os.mkfifo(paths[0])
    paths[1].symlink_to(house / "secret/c.png")
    for path in paths:
        found = loader._read(str(path))
        assert isinstance(found, Fault) and (found.flag, found.detail) == ("image_refused", "no plain file")


def test_a_disk_that_fails_is_no_missing_picture(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stat(path: object, **options: Any) -> os.stat_result:
        raise OSError(errno.EIO, "Input/output error", str(path))

    monkeypatch.setattr("xner_ray.vision.references.os.stat", stat)
    with pytest.raises(RetryableError, match="Input/output"):
        _references(house).find("img/a.png")


def _loader(house: Path, *, max_mb: float = 20, column: str = "image", roots: tuple[str, ...] = ("root",)) -> Loader:
    return Loader(_references(house, *roots), max_mb=max_mb, max_pixels=50_000_000, side=24, column=column)


def _flags(found: list[Loaded]) -> dict[str, str]:
    return {one.reference: str(one.fault.flag) if one.fault else "used" for one in found}


def test_harmful_files_have_their_flags_and_neighbours_are_as_alone(house: Path) -> None:
    alone = list(_loader(house).load(["img/a.png", "b.png"]))
    for name, (data, _) in HARMFUL.items():
        (house / "in" / name).write_bytes(data)
    references = [*HARMFUL, "img/a.png", "b.png", "../secret/c.png", "http://h/x.png", "no.png"]
    found = {one.reference: one for one in _loader(house).load(references)}
    wanted = {name: flag for name, (_, flag) in HARMFUL.items()}
    wanted |= {"img/a.png": "used", "b.png": "used", "no.png": "image_missing"}
    wanted |= dict.fromkeys(("../secret/c.png", "http://h/x.png"), "image_refused")
    assert _flags(list(found.values())) == wanted
    for one in alone:
        again = found[one.reference]
        assert one.image is not None and again.image is not None
        assert (again.id, again.image.tobytes()) == (one.id, one.image.tobytes())


def test_a_file_is_read_once_and_a_content_decoded_once(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (house / "in/same.png").write_bytes((house / "in/img/a.png").read_bytes())
    reads: Counter[str] = Counter()
    decodes: list[bytes] = []
    loader, decode = _loader(house), loading.decode
    read = loader._read
    monkeypatch.setattr(loader, "_read", lambda path: reads.update([path]) or read(path))
    monkeypatch.setattr(loading, "decode", lambda data, *more: decodes.append(data) or decode(data, *more))
    found = list(loader.load(["img/a.png", "same.png", "inner.png", "img/a.png", "b.png"]))
    assert len(found) == 4 and len(decodes) == 2
    assert set(reads.values()) == {1} and len(reads) == 3
    assert sum(one.image is not None for one in found) == 2
    assert len({one.id for one in found}) == 2


def test_known_contents_are_not_decoded(house: Path) -> None:
    (first,) = _loader(house).load(["b.png"])
    (again,) = _loader(house).load(["b.png"], lambda identity: identity == first.id)
    assert again.id == first.id and again.image is None and again.fault is None


def test_what_is_larger_than_allowed_is_not_read(house: Path) -> None:
    (house / "in/big.jpg").write_bytes(photo(640, 400))
    (house / "in/packed.png.gz").write_bytes(b"\x1f\x8b" + bytes(100))
    found = list(_loader(house, max_mb=0.01).load(["big.jpg", "img/a.png", "packed.png.gz"]))
    assert _flags(found) == {"big.jpg": "image_too_large", "img/a.png": "used", "packed.png.gz": "image_refused"}


def test_pictures_inside_tables(house: Path) -> None:
    cells = [
        {"bytes": plain("red"), "path": "x.png"},
        None,
        {"bytes": None, "path": "b.png"},
        {"bytes": b"no", "path": ""},
    ]
    cells += [{"bytes": None, "path": "../secret/c.png"}, {"bytes": None, "path": "t.parquet#0"}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"photo": pa.array(cells, kind), "other": pa.array(range(6))})
    pq.write_table(table, house / "in/t.parquet", row_group_size=2)
    with pa.OSFile(str(house / "in/t.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    for name in ("t.parquet", "t.arrow"):
        found = list(_loader(house, column="photo").load([f"{name}#{row}" for row in (5, 0, 1, 2, 3, 4, 9)]))
        assert list(_flags(found).items()) == [
            (f"{name}#0", "used"),
            (f"{name}#1", "image_missing"),
            (f"{name}#2", "used"),
            (f"{name}#3", "image_refused"),
            (f"{name}#4", "image_refused"),
            (f"{name}#5", "image_refused"),
            (f"{name}#9", "image_missing"),
        ]


def test_a_table_that_a_row_names_runs_no_code_and_gives_no_other_column(house: Path) -> None:
    pickled = pa.field("image", pa.binary(), metadata={"ARROW:extension:name": "ray.data.arrow_pickled_object"})
    pq.write_table(pa.table([pa.array([b"code"])], pa.schema([pickled])), house / "in/t.parquet")
    pq.write_table(pa.table({"image": ["text"]}), house / "in/u.parquet")
    (house / "in/v.parquet").write_bytes(b"PAR1 no table")
    found = list(_loader(house).load(["t.parquet#0", "u.parquet#0", "v.parquet#0", "w.parquet#0"]))
    assert list(_flags(found).values()) == ["image_missing"] + ["image_broken"] * 3
    assert str(house) not in str([one.fault for one in found]), "rows say nothing of this machine"


def test_pictures_on_an_object_store(s3: S3Server) -> None:
    root, other = s3.uri("bucket/in"), s3.uri("bucket/root")
    storage.publish(storage.join(root, "img", "a b.png"), plain("red"))
    storage.publish(storage.join(other, "b.png"), plain("blue"))
    storage.publish(s3.uri("bucket/secret/c.png"), plain("green"))
    references = References(root, [root], [other])
    loader = Loader(references, max_mb=1, max_pixels=10**6, side=24, column="image")
    asked = ["img/a b.png", "b.png", "../secret/c.png", "s3://bucket/root/b.png", "s3://bucket/root/../secret/c.png"]
    asked += ["s3://bucket/secret/c.png", "s3://bucket/root/b.png?endpoint_override=http://127.0.0.1:9", "no.png"]
    assert _flags(list(loader.load(asked))) == {
        "img/a b.png": "used",
        "b.png": "used",
        "s3://bucket/root/b.png": "used",
        "no.png": "image_missing",
        **dict.fromkeys(asked[2:3] + asked[4:7], "image_refused"),
    }


def test_a_store_that_fails_for_a_while_is_no_fault_of_a_picture_and_one_that_denies_ends_no_run(s3: S3Server) -> None:
    root = s3.uri("bucket/in")
    for name in ("a.png", "b.png"):
        storage.publish(storage.join(root, name), plain())
    loader = Loader(References(root, [root]), max_mb=1, max_pixels=10**6, side=24, column="image")
    s3.fault = lambda method, path, query: "AccessDenied" if path.endswith("b.png") else None
    assert _flags(list(loader.load(["a.png", "b.png"]))) == {"a.png": "used", "b.png": "image_refused"}
    s3.fault = lambda method, path, query: "AccessDenied" if path.endswith("b.png") and method == "GET" else None
    assert _flags(list(loader.load(["a.png", "b.png"]))) == {"a.png": "used", "b.png": "image_refused"}
    s3.fault = lambda method, path, query: "SlowDown" if path.endswith("b.png") and method == "GET" else None
    with pytest.raises(RetryableError, match="does not answer"):
        list(loader.load(["a.png", "b.png"]))


_PIECES = [
    "..",
    ".",
    "in",
    "img",
    "a.png",
    "root",
    "b.png",
    "secret",
    "c.png",
    "door",
    "link.png",
    "",
    "~",
    "%2e%2e",
    "\u2025",
]
_STARTS = ["", "/", "//", "file://", "s3://", "file:///", "./", "hf://datasets/", "http://", "C:\\"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(_STARTS), st.lists(st.sampled_from(_PIECES), max_size=9), st.booleans())
def test_no_reference_leaves_the_folders(house: Path, start: str, pieces: list[str], whole: bool) -> None:
    reference = start + (str(house)[1:] + "/" if whole else "") + "/".join(pieces)
    found = _references(house, "root").find(reference)
    if isinstance(found, Place):
        assert os.path.realpath(found.path) in {str(house / "in/img/a.png"), str(house / "root/b.png")}
