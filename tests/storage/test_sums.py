"""Sums of files, and when they are remembered."""

import hashlib
import io
import os
import shutil
import time
from pathlib import Path

import pytest
from s3_server import S3Server

from xner_ray.errors import StorageError
from xner_ray.storage import files as storage
from xner_ray.storage import sums


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The paths that are read, with a cache folder of the test's own and no wait until a file is settled."""
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sums, "_SETTLED_NS", 0)
    found: list[str] = []
    read = sums.read_sum
    monkeypatch.setattr(sums, "read_sum", lambda path: found.append(path) or read(path))
    return found


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _later() -> None:
    """Let the clock that the kernel stamps files with go on; it ticks every few milliseconds."""
    time.sleep(0.02)


def test_the_same_bytes_are_read_once(tmp_path: Path, reads: list[str]) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        Path(path).write_bytes(path.encode())
    assert sums.sums(paths) == sums.sums(paths) == [_sum(path.encode()) for path in paths]
    assert sorted(reads) == paths


def test_another_file_is_never_taken_for_the_same(tmp_path: Path, reads: list[str]) -> None:
    """Old times do not make it so: not of a copy, a restored backup, an exchange of two, or one changed in place."""
    path, other, backup = (tmp_path / name for name in ("a", "b", "backup"))
    path.write_bytes(b"one")
    other.write_bytes(b"two")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    os.utime(other, ns=times)
    _later()
    assert sums.sums([str(path)]) == [_sum(b"one")]
    shutil.copy2(path, backup)
    _later()

    with open(path, "r+b") as file:
        file.write(b"six")
    os.utime(path, ns=times)
    assert sums.sums([str(path)]) == [_sum(b"six")], "changed in place"
    _later()
    shutil.copy2(backup, path)
    assert sums.sums([str(path)]) == [_sum(b"one")], "restored"
    _later()
    shutil.copy2(other, path)
    assert sums.sums([str(path)]) == [_sum(b"two")], "copied over"
    _later()
    os.replace(backup, path)
    assert sums.sums([str(path)]) == [_sum(b"one")], "put in its place"
    _later()
    for pair in ((path, backup), (other, path), (backup, other)):
        os.replace(*pair)
    assert sums.sums([str(path), str(other)]) == [_sum(b"two"), _sum(b"one")], "exchanged"


def test_a_file_that_was_just_written_is_not_trusted(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "_SETTLED_NS", 3600 * 10**9)
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert sums.stamp(str(path)) is None
    for _ in range(2):
        assert sums.sums([str(path)]) == [_sum(b"one")]
    assert len(reads) == 2


def test_file_systems_that_may_invent_times_are_not_trusted(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    _later()
    assert sums.stamp(str(path))
    for kind in ("fuse.sshfs", "fuseblk", "vfat", "cifs"):
        monkeypatch.setattr(sums, "_mounts", lambda kind=kind: [(f"{tmp_path}/", kind), ("/", "ext4")])
        assert sums.stamp(str(path)) is None
    monkeypatch.setattr(sums, "_mounts", lambda: [])
    assert sums.stamp(str(path)) is None


@pytest.mark.parametrize("what", ["a file", "not a database"])
def test_a_cache_that_cannot_be_used_costs_time_alone(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    if what == "a file":
        (tmp_path / "cache").write_text("")
    else:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache/sums.sqlite").write_text("no database, and long enough to be looked at" * 100)
    path = tmp_path / "a"
    path.write_bytes(b"one")
    for _ in range(2):
        assert sums.sums([str(path)]) == [_sum(b"one")]


def test_a_missing_file_is_an_error(tmp_path: Path, reads: list[str]) -> None:
    with pytest.raises(StorageError, match=r"none: cannot be read"):
        sums.sums([str(tmp_path / "none")])


def test_objects_are_known_by_the_tag_of_their_store(s3: S3Server, reads: list[str]) -> None:
    address = s3.uri("bucket/a")
    storage.publish(address, b"one")
    assert sums.sums([address]) == sums.sums([address]) == [_sum(b"one")]
    assert reads == [address]
    storage.publish(address, b"two")
    assert sums.sums([address]) == [_sum(b"two")]
    assert len(reads) == 2
    stamp = sums.stamp(address)
    assert stamp is not None and sums.sums([address], {stamp: "0" * 64}) == ["0" * 64], "known from elsewhere"


@pytest.mark.parametrize(
    ("headers", "known"),
    [
        ({"ETag": '"1"'}, '"1"'),
        ({"ETag": '"1"', "VersionId": "null"}, '"1"'),
        ({"ETag": '"1"', "VersionId": "v2"}, 'v2 "1"'),
        ({"ETag": 'W/"1"'}, None),
        ({"VersionId": "null"}, None),
        ({"Generation": "7", "ETag": "CAE="}, "7 CAE="),
    ],
)
def test_a_version_that_says_nothing_is_no_tag(
    monkeypatch: pytest.MonkeyPatch, headers: dict[str, str], known: str | None
) -> None:
    """In a bucket with suspended versioning every object has the version "null", also after it was overwritten."""

    class Stream(io.BytesIO):
        def metadata(self) -> dict[str, bytes]:
            return {name: text.encode() for name, text in headers.items()}

        def size(self) -> int:
            return 5

    class Store:
        def open_input_stream(self, inner: str) -> Stream:
            return Stream(b"words")

    monkeypatch.setattr(storage, "locate", lambda path: (Store(), "bucket/a"))
    assert sums.stamp("s3://bucket/a") == (f"s3://bucket/a 5 {known}" if known else None)


def test_mount_points_are_read_as_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/sda / ext4 rw 0 0\n/dev/sdb /media/My\\040Passport exfat rw 0 0\n")
    monkeypatch.setattr("builtins.open", lambda *args, real=open, **options: real(mounts, *args[1:], **options))
    sums._mounts.cache_clear()
    found = sums._mounts()
    monkeypatch.undo()
    sums._mounts.cache_clear()
    assert found == [("/media/My Passport/", "exfat"), ("/", "ext4")]
