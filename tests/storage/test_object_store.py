"""Storage that is no disk: pyarrow's real S3 client against a real HTTP server (s3_server.py), and its faults."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from s3_server import S3Server

from xner_ray.errors import InputError, RecipeError, RetryableError, RunFolderError, StorageError
from xner_ray.read.find import find_files
from xner_ray.read.index.build import build_index
from xner_ray.read.records import read_records
from xner_ray.recipe.columns import Columns
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe
from xner_ray.run import parts as part_files
from xner_ray.run import whole
from xner_ray.run.folder import RunFolder
from xner_ray.storage import files as storage
from xner_ray.storage.lease import Lease

CONLL = b"# id = a\nAnn\tB-PER\nsings\tO\n\n"


def _some(faults: list[str | None], *, method: str = "") -> S3Server:
    """A fault of each of the next requests (of one method), then none."""

    def fault(asked: str, path: str, query: dict[str, str]) -> str | None:
        return faults.pop(0) if faults and method in ("", asked) else None

    return fault  # type: ignore[return-value]


def test_objects_are_written_read_listed_and_deleted(s3: S3Server) -> None:
    run = s3.uri("bucket/a folder/run")
    storage.publish(storage.join(run, "x", "y.txt"), b"one")
    storage.publish(storage.join(run, "x", "y.txt"), b"two")
    assert storage.read_bytes(storage.join(run, "x", "y.txt")) == b"two"
    assert list(s3.objects) == ["/bucket/a folder/run/x/y.txt"]
    assert [info.path for info in storage.files_below(run)] == ["bucket/a folder/run/x/y.txt"]
    storage.delete(run)
    assert not storage.exists(storage.join(run, "x", "y.txt"))
    assert not storage.is_local(run)


def test_a_stream_becomes_one_whole_object_or_none(s3: S3Server) -> None:
    path = s3.uri("bucket/x")
    storage.publish_stream(path, (b"%d" % (n % 10) * 1_000_000 for n in range(12)))  # more than one part of an upload
    assert storage.read_bytes(path) == b"".join(b"%d" % (n % 10) * 1_000_000 for n in range(12))
    storage.publish_stream(path, iter(()))
    assert storage.read_bytes(path) == b""

    def broken() -> Iterator[bytes]:
        yield b"x" * 100
        raise InputError("a row that cannot be written")

    with pytest.raises(InputError, match="cannot be written"):
        storage.publish_stream(path, broken())
    assert storage.read_bytes(path) == b""


def test_the_environment_names_the_endpoint(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    storage.publish("s3://bucket/x", b"x")
    assert list(s3.objects) == ["/bucket/x"]


def test_names_with_signs_of_addresses_survive(s3: S3Server) -> None:
    s3.put("/bucket/in/50%?#.conll", CONLL)
    files = find_files(s3.uri("bucket/in"), format=None, lang="eng_Latn", side="source", columns=Columns())
    assert [file.name for file in files] == ["50%25%3F%23.conll"]
    assert [record.id for _, record in read_records(files[0])] == ["a"]


def test_folders_globs_and_languages_are_found(s3: S3Server) -> None:
    for name in ("train.conll", "dev/b.conll", "_run/c.conll", "deep/er/test.conll"):
        s3.put(f"/bucket/spa_Latn/{name}", CONLL)

    def found(path: str) -> list[tuple[str, str]]:
        files = find_files(s3.uri(path), format=None, lang="spa_Latn", side="source", columns=Columns())
        assert all(len(list(read_records(file))) == 1 for file in files)
        return [(file.split, file.name) for file in files]

    assert found("bucket/{lang}") == [("train", "train.conll"), ("validation", "b.conll"), ("test", "test.conll")]
    assert found("bucket/{lang}/*.conll") == [("train", "train.conll")]
    assert found("bucket/{lang}/**/*b.conll") == [("validation", "b.conll")]
    assert found("bucket/*/d*/*.conll") == [("validation", "b.conll")]
    with pytest.raises(InputError, match="no such file or folder"):
        found("bucket/nothing")


def test_ids_are_compared_through_the_store(s3: S3Server) -> None:
    s3.put("/bucket/in/a.conll", CONLL * 3)
    s3.put("/bucket/in/b.conll", CONLL)
    recipe = Recipe.model_validate({"input": {"path": s3.uri("bucket/in")}, "targets": ["spa_Latn"]})
    (unit,) = build_index(recipe, folder=RunFolder(s3.uri("bucket/run")).ids_folder).units
    assert unit.duplicates == ((1, 0), (2, 0), (3, 0))
    written = {path.rpartition("/")[2] for method, path, _ in s3.requests if method == "PUT"}
    assert {"000000-0000", "000001-0000"} <= written
    assert not [path for path in s3.objects if "/_run/ids/" in path and not path.endswith("/")]


def test_a_file_is_the_same_whether_listed_or_asked_for(s3: S3Server) -> None:
    """Listings of some servers have milliseconds, the answer for one object never."""
    s3.put("/bucket/in/a.conll", CONLL)
    alone = find_files(s3.uri("bucket/in/a.conll"), format=None, lang="eng_Latn", side="source", columns=Columns())
    listed = find_files(s3.uri("bucket/in"), format=None, lang="eng_Latn", side="source", columns=Columns())
    assert alone == listed


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("s3://AKIA:geheim@bucket/run", "what stands before its @"),
        ("gs://geheim@bucket/run", "what stands before its @"),
        ("hdfs://me:geheim@host/run", "what stands before its @"),
        ("s3://bucket/run?region=eu&secret_key=geheim", "option secret_key"),
        ("abfss://folder@account.core/run?sas_token=geheim", "option sas_token"),
    ],
)
def test_an_address_with_a_secret_is_refused_unseen(address: str, what: str) -> None:
    for call in (storage.locate, RunFolder):
        with pytest.raises(InputError) as error:
            call(address)
        assert what in str(error.value) and "AWS_SECRET_ACCESS_KEY" in str(error.value)
        assert "geheim" not in str(error.value) and "AKIA" not in str(error.value)


def test_a_recipe_with_a_secret_is_refused_whatever_the_section() -> None:
    recipe = {"input": {"path": "a"}, "targets": ["spa_Latn"], "tag": {"model": "s3://AKIA:geheim@bucket/model"}}
    with pytest.raises(RecipeError, match=r"^tag\.model: s3://\.\.\.: the address holds a secret") as error:
        load_recipe(recipe)
    assert "geheim" not in str(error.value)
    with pytest.raises(RecipeError, match=r"^input\.parallel\.spa_Latn: ") as error:
        load_recipe(recipe | {"tag": {}}, ["input.parallel={spa_Latn: 's3://b/x?secret_key=geheim'}"])
    assert "geheim" not in str(error.value)


def test_unknown_options_are_refused(s3: S3Server) -> None:
    with pytest.raises(InputError, match=r"unknown option 'regoin'; allowed: region, endpoint_override"):
        storage.locate("s3://bucket/run?regoin=eu")
    with pytest.raises(InputError, match="anonymous is 'yes'"):
        storage.locate("s3://bucket/run?anonymous=yes")
    with pytest.raises(InputError, match="names no bucket"):
        storage.locate(s3.uri(""))


@pytest.mark.parametrize("fault", ["SlowDown", "InternalError", "reset"])
def test_what_fails_for_a_while_is_tried_again(s3: S3Server, fault: str) -> None:
    s3.fault = _some([fault, fault])
    storage.publish(s3.uri("bucket/x"), b"x")
    s3.fault = _some([fault])
    assert storage.read_bytes(s3.uri("bucket/x")) == b"x"
    s3.fault = _some([fault])
    assert len(storage.files_below(s3.uri("bucket"))) == 1


def test_after_the_last_try_there_is_one_message(s3: S3Server) -> None:
    s3.fault = lambda method, path, query: "SlowDown"
    for call in (
        lambda: storage.publish(s3.uri("bucket/x"), b"x"),
        lambda: storage.read_bytes(s3.uri("bucket/x")),
        lambda: storage.files_below(s3.uri("bucket")),
    ):
        s3.requests.clear()
        with pytest.raises(RetryableError, match=r"(?s)s3://bucket.*does not answer.*the same command resumes"):
            call()
        assert len(s3.requests) == 3  # AWS_MAX_ATTEMPTS


@pytest.mark.parametrize("code", ["AccessDenied", "NoSuchBucket"])
def test_what_no_try_will_change_is_not_tried_again(s3: S3Server, code: str) -> None:
    s3.fault = lambda method, path, query: code
    with pytest.raises(StorageError, match=r"s3://bucket/x.*cannot be written"):
        storage.publish(s3.uri("bucket/x"), b"x")
    assert len(s3.requests) == 1


def test_a_large_object_that_fails_half_way_is_never_there(s3: S3Server) -> None:
    s3.fault = lambda method, path, query: "AccessDenied" if query.get("partNumber") == "2" else None
    with pytest.raises(StorageError, match="cannot be written"):
        storage.publish(s3.uri("bucket/x"), b"x" * 25_000_000)
    assert "/bucket/x" not in s3.objects
    s3.fault = lambda method, path, query: None
    assert storage.files_below(s3.uri("bucket")) == []


def test_a_size_that_is_not_what_was_written_is_an_error(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = s3.put

    def cut(path: str, data: bytes) -> None:
        whole(path, data[:-1])

    monkeypatch.setattr(s3, "put", cut)
    with pytest.raises(RetryableError, match="3 bytes were written, but 2 are there"):
        storage.publish(s3.uri("bucket/x"), b"abc")


def test_input_that_does_not_answer_is_no_fault_of_the_input(s3: S3Server) -> None:
    s3.put("/bucket/a.conll", CONLL)
    files = find_files(s3.uri("bucket/a.conll"), format=None, lang="eng_Latn", side="source", columns=Columns())
    s3.fault = lambda method, path, query: "SlowDown"
    with pytest.raises(RetryableError, match="does not answer"):
        list(read_records(files[0]))
    s3.fault = lambda method, path, query: "AccessDenied"
    with pytest.raises(InputError, match="cannot be read"):
        list(read_records(files[0]))


def _lease(s3: S3Server, **options: float) -> Lease:
    return Lease(s3.uri("bucket/run/_run/LOCK"), **options)


def _locks(s3: S3Server) -> list[str]:
    return [path for path in s3.objects if "LOCK" in path]


def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


def _renewed(s3: S3Server) -> None:
    """Wait for two more signs of life: the second was begun after this was called."""
    before = len(s3.requests)
    _until(lambda: sum(r[0] == "PUT" and r[1].endswith("LOCK") for r in s3.requests[before:]) >= 2)


def test_a_second_driver_is_refused_while_the_first_gives_signs_of_life(s3: S3Server) -> None:
    s3.clock_ahead_s = 7 * 3600.0  # ages are the store's, whatever this machine's clock says
    with _lease(s3, renew_s=0.05).held():
        for _ in range(3):
            s3.clock_ahead_s += 60  # time passes in the store; 90 s without a sign would be the end
            _renewed(s3)
        with pytest.raises(RunFolderError, match=r"xner-ray works in this folder \(process \d+ on .*; last sign"):
            _lease(s3)._take()
    assert _locks(s3) == []  # given back, and no probe is left
    with _lease(s3).held():
        pass


def test_a_driver_without_signs_of_life_is_followed_after_90_s(s3: S3Server) -> None:
    """One of another machine: of its processes this one knows nothing."""
    s3.put("/bucket/run/_run/LOCK", b'{"owner": "x", "host": "far", "pid": 1, "processes": "another boot"}')
    s3.clock_ahead_s = 80
    with pytest.raises(RunFolderError, match=r"process 1 on far; last sign of life 8\d s ago.* is free in \d+ s"):
        _lease(s3)._take()
    s3.clock_ahead_s = 92
    with _lease(s3).held():
        pass


def test_a_dead_driver_of_this_machine_is_followed_at_once(s3: S3Server) -> None:
    other = subprocess.Popen(["sleep", "60"])
    _lease(s3)._write()
    about = json.loads(s3.objects["/bucket/run/_run/LOCK"][0])
    s3.put("/bucket/run/_run/LOCK", json.dumps({**about, "pid": other.pid}).encode())
    with pytest.raises(RunFolderError, match=f"process {other.pid} on "):
        _lease(s3)._take()
    other.kill()
    other.wait()
    with _lease(s3).held():
        pass


def test_a_run_that_a_failing_store_ended_can_go_on_in_the_same_process(s3: S3Server) -> None:
    def fail() -> None:
        s3.fault = lambda method, path, query: "AccessDenied"
        raise RetryableError("the first")

    with pytest.raises(RetryableError, match="the first"), _lease(s3).held():
        fail()
    assert _locks(s3) == ["/bucket/run/_run/LOCK"]
    s3.fault = lambda method, path, query: None
    with _lease(s3).held(), pytest.raises(RunFolderError, match="another xner-ray"), _lease(s3).held():
        pass


def test_fresh_discards_on_an_object_store_too(s3: S3Server) -> None:
    folder = RunFolder(s3.uri("bucket/run"))
    s3.put("/bucket/run/notes.txt", b"mine")
    for name in ("data/spa_Latn/train.parquet", "_run/parts/0001/a.parquet", "_run/units.parquet", "_run/SEALED"):
        s3.put(f"/bucket/run/{name}", b"x")
    folder.discard()
    assert not folder.is_run()
    assert [path for path in s3.objects if not path.endswith("/")] == ["/bucket/run/notes.txt"]
    with pytest.raises(RunFolderError, match=r"holds files that are no run .*notes\.txt"):
        folder.refuse_other_files()


@pytest.mark.slow
def test_of_drivers_that_begin_at_once_one_has_the_lease(s3: S3Server) -> None:
    n_drivers = 4
    for _ in range(5):
        begin, done, outcomes = threading.Barrier(n_drivers), threading.Event(), list[str]()

        def drive(begin: threading.Barrier, done: threading.Event, outcomes: list[str]) -> None:
            begin.wait()
            try:
                with _lease(s3).held():
                    outcomes.append("taken")
                    done.wait(60)
            except RunFolderError as error:
                outcomes.append(str(error))

        threads = [threading.Thread(target=drive, args=(begin, done, outcomes)) for _ in range(n_drivers)]
        for thread in threads:
            thread.start()
        _until(lambda outcomes=outcomes: len(outcomes) == n_drivers)
        done.set()
        for thread in threads:
            thread.join()
        assert outcomes.count("taken") == 1, outcomes
        assert sum("another xner-ray works in this folder" in outcome for outcome in outcomes) == n_drivers - 1
        assert _locks(s3) == []


def test_a_lease_that_is_given_back_while_it_is_read_is_none(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    _lease(s3)._write()
    read = storage._read

    def late(path: str) -> bytes:
        storage.delete(path)
        return read(path)

    monkeypatch.setattr(storage, "_read", late)
    assert _lease(s3)._read() is None


def test_a_driver_that_died_while_it_began_is_forgotten(s3: S3Server) -> None:
    s3.put("/bucket/run/_run/LOCK.x", b'{"owner": "x", "host": "far", "pid": 1, "processes": "another boot"}')
    with pytest.raises(RunFolderError, match=r"another xner-ray begins in this folder \(process 1 on far\)"):
        _lease(s3)._take()
    s3.clock_ahead_s = 40
    with _lease(s3).held():
        pass


def test_of_two_drivers_with_the_lease_one_stops(s3: S3Server) -> None:
    """The second took it although the first lives; the one whose renewal came last in between goes on."""
    first, second = _lease(s3, renew_s=0.05), _lease(s3, renew_s=0.05, expire_s=-10)
    with first.held(), second.held():
        _until(lambda: first.taken_by or second.taken_by)
        lost, kept = (first, second) if first.taken_by else (second, first)
        with pytest.raises(RunFolderError, match=r"has taken over this folder \(process \d+ .*nothing is lost"):
            lost.check()
        _renewed(s3)
        kept.check()
    assert _locks(s3) == []


def test_a_lease_survives_a_store_that_fails_for_a_while(s3: S3Server) -> None:
    lease = _lease(s3, renew_s=0.05)
    with lease.held():
        s3.fault = lambda method, path, query: "AccessDenied"
        before = len(s3.requests)
        _until(lambda: len(s3.requests) > before + 2)
        s3.fault = lambda method, path, query: None
        _renewed(s3)
        lease.check()


def test_the_folder_on_an_object_store_is_claimed(s3: S3Server) -> None:
    folder, other = RunFolder(s3.uri("bucket/run")), RunFolder(s3.uri("bucket/run/"))
    with folder.claim():
        folder.still_ours()
        with pytest.raises(RunFolderError, match="another xner-ray works"), other.claim():
            pass
    with other.claim():
        pass
    assert folder.place == other.place


def test_a_part_that_is_cut_off_is_named_and_not_taken(s3: S3Server, tmp_path: Path) -> None:
    for root in (s3.uri("bucket/run"), str(tmp_path)):
        folder = RunFolder(root)
        path = folder.path("_run", "parts", "0001", "u.parquet")
        part_files.write_part(path, pa.table({"row": list(range(1000))}), {"rows": 1})
        data = storage.read_bytes(path)
        assert whole.counters(path) == {"rows": 1}
        for size in (len(data) - 1, len(data) // 2, 12):
            storage.publish(path, data[:size])
            assert folder.parts() == {"u": path}
            for read in (whole.counters, part_files.read_part):
                with pytest.raises(StorageError, match=r"u\.parquet.*run the command that made this run again"):
                    read(path)
        storage.publish(path, b"")
        assert folder.parts() == {}  # made again
        part_files.write_part(path, pa.table({"row": [0]}), {"rows": 1})
        for fault in ("AccessDenied", "SlowDown") if "://" in path else ():
            s3.fault = lambda method, path, query, fault=fault: fault  # type: ignore[misc]
            with pytest.raises((StorageError, RetryableError)) as error:
                part_files.read_part(path)
            assert "damaged" not in str(error.value)
        s3.fault = lambda method, path, query: None
    pq.write_table(pa.table({"row": [0]}), tmp_path / "other.parquet")
    with pytest.raises(StorageError, match="damaged it"):
        whole.counters(str(tmp_path / "other.parquet"))


def test_what_was_missing_when_it_was_read_was_missing(s3: S3Server) -> None:
    """Another driver may write a file after it was found missing, and before anybody asks again."""
    path = s3.uri("bucket/late")

    class Late(dict[str, tuple[bytes, float]]):
        def __contains__(self, asked: object) -> bool:
            found = super().__contains__(asked)
            if asked == "/bucket/late" and not found:
                self["/bucket/late"] = (b"now", time.time())
            return found

    s3.objects = Late()
    assert storage.read_if_there(path) is None
    assert storage.read_if_there(path) == b"now"
