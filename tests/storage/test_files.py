import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from xner_ray.errors import InputError, StorageError
from xner_ray.storage import cache
from xner_ray.storage import files as storage


def test_publish_replaces_whole_files_and_leaves_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.txt"
    storage.publish(str(target), b"one")
    storage.publish(str(target), b"two")
    assert storage.read_bytes(str(target)) == b"two"
    assert [path.name for path in target.parent.iterdir()] == ["b.txt"]


def test_a_failed_publish_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "b.txt"
    storage.publish(str(target), b"one")
    with pytest.raises(TypeError):
        storage.publish(str(target), "not bytes")  # type: ignore[arg-type]
    assert storage.read_bytes(str(target)) == b"one"
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_files_below_is_sorted_and_skips_temporary_files(tmp_path: Path) -> None:
    for name in ("b", "a/c", ".b.123.tmp"):
        storage.publish(str(tmp_path / name), b"")
    (tmp_path / ".x.tmp").write_bytes(b"")
    below = [Path(info.path).relative_to(tmp_path).as_posix() for info in storage.files_below(str(tmp_path))]
    assert below == ["a/c", "b"]
    assert storage.files_below(str(tmp_path / "nowhere")) == []


def test_unknown_scheme_is_one_clear_message() -> None:
    with pytest.raises(InputError, match=r"ftp://host/x: no filesystem .* allowed: a path, s3://, gs://"):
        storage.locate("ftp://host/x")


def test_delete_takes_files_folders_and_nothing(tmp_path: Path) -> None:
    storage.publish(str(tmp_path / "d" / "f"), b"")
    storage.publish(str(tmp_path / "f"), b"")
    for name in ("d", "f", "nothing"):
        storage.delete(str(tmp_path / name))
    assert list(tmp_path.iterdir()) == []


def test_a_published_folder_is_whole_and_the_first_one_stays(tmp_path: Path) -> None:
    def fill(text: str) -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            assert not (tmp_path / "model").is_dir() or text == "late"  # under its final name only when whole
            (folder / "weights").write_text(text, encoding="utf-8")

        return write

    cache.publish_folder(tmp_path / "model", fill("first"))
    cache.publish_folder(tmp_path / "model", fill("late"))
    assert (tmp_path / "model/weights").read_text(encoding="utf-8") == "first"
    with pytest.raises(OSError, match="no space"):
        cache.publish_folder(tmp_path / "other", _full)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB in memory; skips where it may not be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("a file system in memory cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_message_and_leaves_nothing_behind(small_disk: Path) -> None:
    path = str(small_disk / "parts" / "a.parquet")
    storage.publish(path, b"old")
    with pytest.raises(
        StorageError, match=r"a\.parquet: cannot be written: no space is left there .*same command resumes"
    ):
        storage.publish(path, b"x" * (2 << 20))
    assert storage.read_bytes(path) == b"old"
    assert [file.name for file in (small_disk / "parts").iterdir()] == ["a.parquet"]


def test_a_disk_that_is_full_for_this_process_is_the_same(tmp_path: Path) -> None:
    """By the kernel's limit on the size of a file, which needs no right to mount."""
    code = (
        "import resource, signal, sys; from xner_ray.storage import files as storage\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "from xner_ray.errors import StorageError\n"
        "try: storage.publish(sys.argv[1], b'x' * 2000)\n"
        "except StorageError as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a")]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "a: cannot be written: no space is left there (File too large)" in output
    assert list(tmp_path.iterdir()) == []


def _full(folder: Path) -> None:
    (folder / "weights").write_text("half", encoding="utf-8")
    raise OSError("no space")


def test_a_stream_is_published_whole_or_not_at_all(tmp_path: Path) -> None:
    path = str(tmp_path / "d" / "f")
    storage.publish_stream(path, iter([b"one", b"", b" two"]))
    assert storage.read_bytes(path) == b"one two"

    def broken() -> Iterator[bytes]:
        yield b"x" * (1 << 20)
        assert storage.read_bytes(path) == b"one two"
        raise InputError("a row that cannot be written")

    with pytest.raises(InputError, match="cannot be written"):
        storage.publish_stream(path, broken())
    assert storage.read_bytes(path) == b"one two" and [file.name for file in (tmp_path / "d").iterdir()] == ["f"]


def test_a_missing_file_is_told_from_one_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    assert storage.read_if_there(str(tmp_path / "a")) == b"one"
    assert storage.read_if_there(str(tmp_path / "b")) is None
    with pytest.raises(StorageError, match="cannot be read"):
        storage.read_if_there(str(tmp_path))
