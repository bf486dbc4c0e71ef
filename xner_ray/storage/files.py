"""Files wherever pyarrow's filesystems reach: a local path, `s3://`, `gs://`; to read alone, `hf://datasets/`.

A file is published in one step: locally a temporary name, fsync and rename; on an object store one put.
Nothing here appends, and nothing half-written ever has its final name.

An address may have options, `s3://bucket/folder?region=eu-west-1&endpoint_override=http://host:9000`; AWS_ENDPOINT_URL
and AWS_REGION do the same for all of them. Credentials come from the environment, the configuration files or the
machine's role, as AWS and Google define them. An address that holds a secret is refused: addresses are written into
recipes, logs and messages. In an address `%3F` is a question mark of a name, `%23` a `#`, `%25` a `%`.

What fails for a while (no connection, throttling, an error of the server) is tried again by pyarrow's own strategies:
on S3 seven tries with random, growing pauses, 30 s in the mean (AWS_MAX_ATTEMPTS sets another number), on Google's a
minute; an S3 server that takes a connection and never answers costs 20 s a try. Then it is a RetryableError; what no
further try will change, as a missing right or a full disk, a StorageError.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from urllib.parse import parse_qsl, unquote

import pyarrow as pa
from pyarrow import fs

from xner_ray.errors import InputError, RetryableError, ServiceError, StorageError, XnerError, one_line
from xner_ray.storage import hub
from xner_ray.storage.addresses import bare as bare
from xner_ray.storage.addresses import split

_ALLOWED = "allowed: a path, s3://, gs://, and to read hf://datasets/"
_CREDENTIALS = (
    "give credentials by the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN or AWS_PROFILE; "
    "GOOGLE_APPLICATION_CREDENTIALS; HF_TOKEN), by configuration files or by the machine's role"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_OPTIONS = {
    "s3": ("region", "endpoint_override", "scheme", "anonymous"),
    "gs": ("endpoint_override", "scheme", "anonymous", "project_id"),
}
_SECRET = re.compile("key|secret|token|password|credential|signature|^sig$", re.IGNORECASE)
_TRANSIENT = re.compile(
    r"HTTP status (?:408|429|5\d\d)|AWS Error (?:SLOW_DOWN|THROTTLING|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|"
    r"REQUEST_TIMEOUT|NETWORK_CONNECTION|REQUEST_LIMIT_EXCEEDED)|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED|"
    r"INTERNAL:|[Rr]etry policy exhausted|curlCode: (?:5|6|7|18|28|35|52|55|56)\b"
)
_S3_TRIES = 7
_GCS_SECONDS = 60
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def refuse_secrets(address: str) -> None:
    """Raise InputError for an address that holds a secret; the message names its scheme and host alone."""
    if not (scheme := _SCHEME.match(address)):
        return
    authority, _, _ = re.split("[/?#]", address[scheme.end() :], maxsplit=1)[0].rpartition("@")
    rest = address.partition("?")[2].partition("#")[0]
    named = [name for name, _ in parse_qsl(rest, keep_blank_values=True) if _SECRET.search(name)]
    if named or ":" in authority or (authority and scheme[1] in ("s3", "gs", "gcs", "hf")):
        what = f"the option {named[0]}" if named else "what stands before its @"
        raise InputError(
            f"{scheme[0]}...: the address holds a secret ({what}), which would end up in logs and recipes; "
            f"{_CREDENTIALS}"
        )


def locate(path: str) -> tuple[fs.FileSystem, str]:
    """Return filesystem and path inside it; a path without a scheme is local. InputError for a bad address."""
    refuse_secrets(path)
    if "://" not in path:
        return fs.LocalFileSystem(), os.path.abspath(path)
    if path.startswith(hub.SCHEME):
        with _failing(path, "reached"):
            return hub.filesystem(), hub.inner_of(path)
    scheme, _, place = bare(path).partition("://")
    scheme = {"gcs": "gs"}.get(scheme, scheme)
    try:
        if scheme in _OPTIONS:
            inner = unquote(place).strip("/")
            if not inner:
                raise InputError(f"{path}: names no bucket")
            return _remote(scheme, inner.partition("/")[0], _options(path, scheme)), inner
        filesystem, inner = fs.FileSystem.from_uri(path)
    except (ValueError, OSError) as error:
        if transient(error):
            raise failure(path, "reached", error) from None
        raise InputError(f"{path}: no filesystem for this address ({error}); {_ALLOWED}") from None
    return filesystem, inner


def pinned(path: str) -> str:
    """Return an address at the hub with the commit that its revision is in this command; others as they are."""
    return within(path, locate(path)[1]) if path.startswith(hub.SCHEME) else path


def refuse_read_only(path: str) -> None:
    """Raise InputError for an address that nothing can be written to."""
    if path.startswith(hub.SCHEME):
        raise InputError(f"{path}: {hub.READ_ONLY}")


def _options(path: str, scheme: str) -> dict[str, str]:
    options = dict(parse_qsl(split(path)[2], keep_blank_values=True))
    if unknown := sorted(set(options) - set(_OPTIONS[scheme])):
        raise InputError(f"{bare(path)}: unknown option {unknown[0]!r}; allowed: {', '.join(_OPTIONS[scheme])}")
    if options.get("anonymous", "true") not in ("true", "false"):
        raise InputError(f"{bare(path)}: anonymous is {options['anonymous']!r}; allowed: true, false")
    return options


def _remote(scheme: str, bucket: str, options: Mapping[str, str]) -> fs.FileSystem:
    endpoint = options.get("endpoint_override")
    anonymous = options.get("anonymous") == "true"
    if scheme == "gs":
        chosen, host = _endpoint(endpoint, options.get("scheme"))
        return _gcs(host, chosen, anonymous, options.get("project_id"))
    environ = os.environ
    endpoint = endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    chosen, host = _endpoint(endpoint, options.get("scheme"))
    region = options.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION")
    if region is None and host is None:
        region = _region(bucket)
    tries = int(environ.get("AWS_MAX_ATTEMPTS") or _S3_TRIES)
    who = environ.get("AWS_ACCESS_KEY_ID", ""), environ.get("AWS_PROFILE", "")  # of a test that changes them
    return _s3(host, chosen, region or "us-east-1", anonymous, tries, who)


def _endpoint(endpoint: str | None, scheme: str | None) -> tuple[str, str | None]:
    """Return scheme and host:port of `host:port` or `http://host:port`."""
    if endpoint and (found := _SCHEME.match(endpoint)):
        return found[1], endpoint[found.end() :].rstrip("/")
    return scheme or "https", endpoint or None


@lru_cache
def _region(bucket: str) -> str:
    return str(fs.resolve_s3_region(bucket))


@lru_cache
def _s3(
    endpoint: str | None, scheme: str, region: str, anonymous: bool, tries: int, who: tuple[str, str]
) -> fs.FileSystem:
    del who  # a part of the cache's key
    return fs.S3FileSystem(
        endpoint_override=endpoint,
        scheme=scheme,
        region=region,
        anonymous=anonymous,
        # One put instead of three requests where a file is small, and no upload that is begun and never ended.
        allow_delayed_open=True,
        connect_timeout=5,
        request_timeout=20,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=tries),
    )


@lru_cache
def _gcs(endpoint: str | None, scheme: str, anonymous: bool, project: str | None) -> fs.FileSystem:
    return fs.GcsFileSystem(
        endpoint_override=endpoint,
        scheme=scheme,
        anonymous=anonymous,
        project_id=project,
        retry_time_limit=timedelta(seconds=_GCS_SECONDS),
    )


def transient(error: BaseException) -> bool:
    """Return True for an error of remote storage that may pass: throttling, no connection, a fault of the server."""
    return isinstance(error, OSError) and error.errno is None and bool(_TRANSIENT.search(str(error)))


def refused(error: OSError) -> bool:
    """Return True for an error of the system or the store (no right, no such name), not of a file's content."""
    return error.errno is not None or any(store in str(error) for store in ("AWS Error", "google::cloud"))


def failure(path: str, what: str, error: BaseException, kind: Callable[[str], XnerError] = StorageError) -> XnerError:
    """Return our error for one of storage. what: the verb of `cannot be {what}`.

    ServiceError if it may be gone later; StorageError for a full disk; InputError for what the hub refuses; else
    `kind`.
    """
    if isinstance(error, hub.HubError):
        return (ServiceError if error.passes else InputError)(str(error))
    said = one_line(str(error).strip())
    if transient(error):
        return ServiceError(
            f"{path}: cannot be {what}: the storage does not answer, or refuses for now, also after several tries "
            f"({said}); when it works again, the same command resumes"
        )
    if isinstance(error, OSError) and error.errno in _FULL:
        return StorageError(
            f"{path}: cannot be {what}: no space is left there ({error.strerror}); nothing half-written was kept; "
            "make room, and the same command resumes"
        )
    return kind(f"{path}: cannot be {what} ({said})")


@contextmanager
def _failing(path: str, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise failure(path, what, error) from None


def is_local(path: str) -> bool:
    return isinstance(locate(path)[0], fs.LocalFileSystem)


def join(folder: str, *parts: str) -> str:
    """
    >>> join("s3://b/run/?region=eu", "data", "a")
    's3://b/run/data/a?region=eu'
    """
    address, mark, options = split(folder)
    return "/".join([address.rstrip("/"), *parts]) + mark + options


def within(address: str, inner: str) -> str:
    """Return the address of another path inside the filesystem of `address`, such as one that a listing named.

    >>> within("s3://b/a?region=eu", "b/a/50%.txt"), within("/a", "/a/b?")
    ('s3://b/a/50%25.txt?region=eu', '/a/b?')
    """
    if "://" not in address:
        return inner
    scheme, _, _ = address.partition("://")
    for sign in "%?#":
        inner = inner.replace(sign, f"%{ord(sign):02X}")
    return f"{scheme}://{inner}" + "".join(split(address)[1:])


def exists(path: str) -> bool:
    return bool(info_of(path).type != fs.FileType.NotFound)


def info_of(path: str) -> fs.FileInfo:
    """Return type, size and time of last change; where nothing is, the type is NotFound."""
    filesystem, inner = locate(path)
    with _failing(path, "reached"):
        return filesystem.get_file_info(inner)


def files_below(folder: str, *, recursive: bool = True) -> list[fs.FileInfo]:
    """Return the files at any depth below `folder`, sorted by path; none if the folder does not exist.

    recursive: False for the files of the folder itself alone.
    Paths are those of the filesystem; hidden files (a leading dot, as temporary ones have) are left out.
    """
    filesystem, inner = locate(folder)
    with _failing(folder, "listed"):
        infos = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True, recursive=recursive))
    return sorted(
        (info for info in infos if info.type == fs.FileType.File and not info.base_name.startswith(".")),
        key=lambda info: str(info.path),
    )


def read_bytes(path: str) -> bytes:
    with _failing(path, "read"):
        return _read(path)


def read_if_there(path: str) -> bytes | None:
    """Return the bytes of a file; None where none is. StorageError of a store that fails.

    What counts is the moment of the reading: another driver may write the file right after it.
    """
    try:
        return _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if not exists(path):
            return None
        raise failure(path, "read", error) from None


def _read(path: str) -> bytes:
    filesystem, inner = locate(path)
    with filesystem.open_input_stream(inner) as stream:
        return bytes(stream.read())


def read_range(path: str, offset: int, length: int) -> bytes:
    """Return `length` bytes of a file from `offset` on; StorageError if it has fewer."""
    filesystem, inner = locate(path)
    with _failing(path, "read"), filesystem.open_input_file(inner) as stream:
        data = bytes(stream.read_at(length, offset))
    if len(data) != length:
        raise StorageError(
            f"{path}: ends at byte {offset + len(data)}, before {offset + length}; run the command again"
        )
    return data


def publish(path: str, data: bytes | pa.Buffer) -> None:
    """Write `data` under `path` so that a reader sees the old file, no file, or all of it."""
    filesystem, inner = locate(path)
    with _failing(path, "written"):
        if isinstance(filesystem, fs.LocalFileSystem):
            _publish_local(Path(inner), [data])
        else:
            for _ in range(3):  # another writer's object, as whole and of another length, may come between
                put(filesystem, inner, data)
                size = filesystem.get_file_info(inner).size
                if size == len(data):
                    break
    if not isinstance(filesystem, fs.LocalFileSystem) and size != len(data):
        raise RetryableError(
            f"{path}: {len(data)} bytes were written, but {size} are there; run the same command again"
        )


def publish_stream(path: str, chunks: Iterable[bytes]) -> None:
    """Publish what the chunks make up, of which none but the present one is held in memory.

    For an object store they are gathered in a temporary file of this machine: an object is put whole.
    """
    filesystem, inner = locate(path)
    with _failing(path, "written"):
        if isinstance(filesystem, fs.LocalFileSystem):
            _publish_local(Path(inner), chunks)
        else:
            with tempfile.NamedTemporaryFile() as gathered:
                gathered.writelines(chunks)
                gathered.flush()
                with pa.memory_map(gathered.name) as whole:
                    publish(path, whole.read_buffer())


def put(filesystem: fs.FileSystem, inner: str, data: bytes | pa.Buffer) -> None:
    """Write one object from one buffer. `with` would close it, and so publish it, on an exception too."""
    stream = filesystem.open_output_stream(inner)
    stream.write(data)
    stream.close()


def _publish_local(target: Path, chunks: Iterable[bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # The dot keeps listings, globs and `datasets` from ever seeing it.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "wb") as stream:
            stream.writelines(chunks)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def copy(sources: Mapping[str, str], folder: str) -> None:
    """Copy files, each from its address, to their names below `folder`, as streams; whole only when this returns."""
    target, below = locate(folder)
    for name, source in sources.items():
        filesystem, inner = locate(source)
        with _failing(source, f"copied to {folder}"):
            if isinstance(target, fs.LocalFileSystem):
                target.create_dir(f"{below}/{name}".rpartition("/")[0], recursive=True)
            fs.copy_files(inner, f"{below}/{name}", filesystem, target, chunk_size=8 << 20)


def delete(path: str) -> None:
    """Delete a file or a whole folder; nothing happens if it is not there."""
    filesystem, inner = locate(path)
    with _failing(path, "deleted"):
        kind = filesystem.get_file_info(inner).type
        if kind == fs.FileType.Directory and isinstance(filesystem, fs.LocalFileSystem):
            filesystem.delete_dir(inner)
        elif kind == fs.FileType.Directory:  # an object store has none, and Google's client fails to delete that
            filesystem.delete_dir_contents(inner, missing_dir_ok=True)
        elif kind == fs.FileType.File:
            filesystem.delete_file(inner)
