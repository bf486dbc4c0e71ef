"""Data sets of the Hugging Face hub as a filesystem of pyarrow's: read only, one commit, by ranges.

An address is `hf://datasets/owner/name[@revision][/path]`; revision: a branch, a tag, a commit, `refs/pr/1`,
`refs/convert/parquet`. What a revision is by now is asked for once a command, and a resume takes the commits that its
run recorded, so that no two commits are mixed. A commit never changes: what is known of its files is kept, and their
last blocks, so that a footer is fetched once. Endpoint and token are those of huggingface_hub (HF_ENDPOINT, HF_TOKEN or
the file of `hf auth login`), read in each process.

What fails for a while (no connection, 408, 429, an error of the server) is tried again by huggingface_hub: six times in
some 25 s, or after the pause that the hub asks for. Then it is a HubError that `passes`.
"""

from __future__ import annotations

import errno
import io
import os
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple, NoReturn
from urllib.parse import quote, unquote

import pyarrow as pa
from pyarrow import fs

SCHEME = "hf://"
_NAME = r"([\w.-]+/[\w.-]+)"
_ADDRESS = re.compile(rf"hf://datasets/{_NAME}(?:@(refs/(?:convert/[\w.-]+|pr/\d+)|[^/]+))?(?:/(.*))?")
_INNER = re.compile(rf"datasets/{_NAME}@([0-9a-f]{{40}})(?:/(.*))?", re.DOTALL)
_COMMIT = re.compile("[0-9a-f]{40}")
_AGAIN = (408, 429, 500, 502, 503, 504)
_BLOCK_BYTES = 256 << 10
_MOST_BLOCKS = 16  # of a request: it doubles while a file is read on, so that one unit costs little, and a file few
_KEPT_BLOCKS = 128  # in a process
_TOKEN = "by HF_TOKEN in the environment, of every node of a cluster, or by `hf auth login`; never in a recipe"


class HubError(OSError):
    """What the hub or its client refuses, with what to do; `storage.files` makes it an error of ours.

    passes: whether the same may succeed later.
    """

    def __init__(self, message: str, *, passes: bool = False) -> None:
        super().__init__(message)
        self.passes = passes


class Subject(NamedTuple):
    """What the hub is asked about, as messages put it."""

    what: str  # the beginning of a message
    noun: str
    absent: str  # what is said where the hub has none
    name: str  # owner/name
    revision: str
    fetch: str  # what to run to need no hub, and what to name then


_commits: dict[str, str] = {}  # by owner/name@revision


class Entry(NamedTuple):
    """What the hub says of a file or folder of a commit."""

    size: int | None  # in bytes; None: a folder
    identity: str  # `sha256:` of a file of git LFS, `git:` and the id of git's blob of others


_entries: dict[tuple[str, str], Entry] = {}  # by endpoint and path inside the filesystem
_blocks: OrderedDict[tuple[str, int], bytes] = OrderedDict()  # by address of the file and number, the oldest first


def begin(known: Mapping[str, str] | None = None) -> None:
    """Begin a command: forget what revisions were, but for `known`, which an earlier `commits` returned."""
    _commits.clear()
    _commits.update(known or {})


def commits() -> dict[str, str]:
    """Return the commits that this command reads, by owner/name@revision."""
    return dict(_commits)


def inner_of(address: str) -> str:
    """Return the path of an address inside the filesystem, with the commit that its revision is.

    HubError for an address of anything else, and where the hub has no such data set or revision.
    """
    match = _ADDRESS.fullmatch(address.partition("?")[0].rstrip("/"))
    if match is None or "?" in address:
        raise HubError(
            f"{address}: no data set of the hub; write hf://datasets/owner/name, hf://datasets/owner/name@revision, or "
            "one of them with /a/path or /a/glob*; of the hub, data sets alone are read as files"
        )
    name, revision, path = match[1], unquote(match[2] or "main"), unquote(match[3] or "").strip("/")
    return f"datasets/{name}@{_commit(name, revision)}" + (f"/{path}" if path else "")


def unpinned(path: str) -> str:
    """Return an address or path without the commit, for names that must not change with it."""
    return re.sub(rf"^(hf://datasets/{_NAME})@[0-9a-f]{{40}}", r"\1", path)


def identity(inner: str) -> str | None:
    """Return what the hub says of a file's content: see `Entry`; None where there is no file."""
    found = _entry(inner)
    return found.identity if found else None


def _commit(name: str, revision: str) -> str:
    if _COMMIT.fullmatch(revision):
        return revision
    key = f"{name}@{revision}"
    if key not in _commits:
        _commits[key] = str(ask("GET", f"{_api(name)}/revision/{quote(revision, safe='')}", _about(key)).json()["sha"])
    return _commits[key]


def _api(name: str) -> str:
    from huggingface_hub import constants

    return f"{constants.ENDPOINT}/api/datasets/{name}"


def ask(method: str, url: str, about: Subject, *, patient: bool = True, **options: Any) -> Any:
    """Return the answer to a request. patient: try again what fails for a while. FileNotFoundError, HubError."""
    from huggingface_hub import constants, errors

    utils: Any = import_module("huggingface_hub.utils")
    headers = utils.build_hf_headers() | options.pop("headers", {})
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    tries: dict[str, Any] = {} if patient else {"max_retries": 0}
    try:
        response = utils.http_backoff(
            method, url, headers=headers, timeout=timeout, retry_on_status_codes=_AGAIN, **tries, **options
        )
        utils.hf_raise_for_status(response)
    except errors.EntryNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), about.what) from None
    except (unreachable(), errors.OfflineModeIsEnabled) as error:
        raise explained(about, error) from None
    return response


def unreachable() -> type[Exception]:
    """Return the exception of the hub's client for no answer, or a refusal: the base of its HTTP library's."""
    from huggingface_hub import errors

    found: type[Exception] = getattr(errors, "HTTPError", errors.HfHubHTTPError)
    return found


def explained(about: Subject, error: BaseException) -> HubError:
    """Return our error for a refusal of the hub's or its client's, with what to do."""
    from huggingface_hub import constants, errors, get_token

    what, noun, absent, name, revision, fetch = about
    status = getattr(getattr(error, "response", None), "status_code", None)
    token = bool(get_token())
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError(
            f"{what}: HF_HUB_OFFLINE is set, and this {noun} is read over the network; unset it; or run {fetch}"
        )
    if isinstance(error, errors.GatedRepoError):
        said = "the account of the token given has not agreed, or is not let in yet" if token else "no token is given"
        return HubError(
            f"{what}: is gated: its owner asks for consent, and {said}. Accept its terms on the page of {name}, and "
            f"give the token of that account {_TOKEN}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(f"{what}: the hub has the {noun}, but no revision {revision!r} of it (any more)")
    if isinstance(error, errors.RepositoryNotFoundError):
        say = "the token given may not read it" if token else f"a token is missing: give one {_TOKEN}"
        return HubError(f"{what}: {absent} ({constants.ENDPOINT}), or it is private and {say}")
    if status == 401:
        return HubError(
            f"{what}: the hub refuses (HTTP status 401): the token given is wrong, or too old; give another {_TOKEN}"
        )
    if status == 403:
        return HubError(
            f"{what}: the hub refuses (HTTP status 403): the token may be without the right to read this {noun}, as "
            f"fine-grained ones are for gated repositories unless that is ticked; give another {_TOKEN}"
        )
    if status is not None and status not in _AGAIN:
        return HubError(f"{what}: the hub ({constants.ENDPOINT}) answers with HTTP status {status}")
    why = f"HTTP status {status}" if status else " ".join(f"{type(error).__name__}: {error}".split())
    limited = status == 429 and not token
    cure = f"a token raises its limit: give one {_TOKEN}" if limited else f"or run {fetch}"
    return HubError(
        f"{what}: the hub ({constants.ENDPOINT}) does not answer, or refuses for now, also after several tries "
        f"({why}); when it works again, the same command resumes; {cure}",
        passes=True,
    )


def _about(place: str) -> Subject:
    """Return a data set as what is asked about. place: owner/name@revision, and a path in it."""
    name, _, revision = place.partition("@")
    revision = revision[:40] if _COMMIT.match(revision) else revision
    fetch = f"`hf download {name} --repo-type dataset --local-dir FOLDER` where there is a network, and name FOLDER"
    return Subject(f"{SCHEME}datasets/{place}", "data set", "no such data set on the hub", name, revision, fetch)


def _parts(inner: str) -> tuple[str, str, str]:
    """Return name, commit and path of a path inside the filesystem."""
    match = _INNER.fullmatch(inner)
    assert match is not None, inner
    return match[1], match[2], match[3] or ""


def _place(inner: str) -> str:
    return inner.removeprefix("datasets/")


def _entry(inner: str) -> Entry | None:
    """Return what the hub says of one path; None if it is not there."""
    name, commit, path = _parts(inner)
    if not path:
        return Entry(None, "")
    key = (_api(name), inner)
    if key not in _entries:
        asked = {"paths": [path], "expand": False}
        answer = ask("POST", f"{_api(name)}/paths-info/{commit}", _about(_place(inner)), data=asked)
        _keep(inner[: -len(path)], answer.json())
    return _entries.get(key)


def _keep(root: str, found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Keep what the hub says of paths, and return them inside the filesystem. root: of the commit, with a slash."""
    name = _parts(root)[0]
    for item in found:
        lfs = item.get("lfs")
        stated = f"sha256:{lfs['oid']}" if lfs else f"git:{item['oid']}"
        _entries[_api(name), root + item["path"]] = Entry(item["size"] if item["type"] == "file" else None, stated)
    return [root + item["path"] for item in found]


def _listed(inner: str, recursive: bool) -> Iterator[str]:
    """Yield all that is below a folder. FileNotFoundError."""
    name, commit, path = _parts(inner)
    root = inner[: len(inner) - len(path)].rstrip("/") + "/"
    url = f"{_api(name)}/tree/{commit}" + (f"/{quote(path)}" if path else "")
    options: dict[str, Any] = {"params": {"recursive": recursive, "expand": False}}
    while url:
        answer = ask("GET", url, _about(_place(inner)), **options)
        yield from _keep(root, answer.json())
        url, options = answer.links.get("next", {}).get("url"), {}  # the next address has the options in it


def _bytes(url: str, place: str, start: int, stop: int) -> bytes:
    """Return bytes `start` to `stop` of a file of a commit."""
    wanted = {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}
    data = bytes(ask("GET", url, _about(place), headers=wanted).content)
    if len(data) != stop - start:
        raise HubError(
            f"{SCHEME}datasets/{place}: {len(data)} bytes came for the {stop - start} from {start} on; run the same "
            "command again, and without a mirror or proxy that knows no ranges",
            passes=True,
        )
    return data


class _Ranges(io.RawIOBase):
    """A file of a commit as a seekable stream, fetched in blocks."""

    def __init__(self, inner: str, size: int) -> None:
        from huggingface_hub import hf_hub_url

        name, commit, path = _parts(inner)
        self._url = hf_hub_url(name, path, repo_type="dataset", revision=commit)
        self._place, self._size, self._at = _place(inner), size, 0
        self._following, self._ahead = -1, 1

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the whole buffer unless the file ends before: Arrow takes a shorter answer for the end."""
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and self._at < self._size:
            number, offset = divmod(self._at, _BLOCK_BYTES)
            last = (self._at + len(view) - filled - 1) // _BLOCK_BYTES
            part = self._block(number, last)[offset:][: len(view) - filled]
            view[filled : filled + len(part)] = part
            filled, self._at = filled + len(part), self._at + len(part)
        return filled

    def _block(self, number: int, last: int) -> bytes:
        """Return a block; if it is to be fetched, then together with those up to `last`, and some ahead."""
        if (kept := _blocks.get((self._url, number))) is not None:
            return kept
        self._ahead = min(2 * self._ahead, _MOST_BLOCKS) if number == self._following else 1
        self._following = number + max(self._ahead, min(last + 1 - number, _MOST_BLOCKS))
        start, stop = number * _BLOCK_BYTES, min(self._following * _BLOCK_BYTES, self._size)
        data = _bytes(self._url, self._place, start, stop)
        for at in range(0, len(data), _BLOCK_BYTES):
            _blocks[self._url, number + at // _BLOCK_BYTES] = data[at : at + _BLOCK_BYTES]
        while len(_blocks) > _KEPT_BLOCKS:
            _blocks.popitem(last=False)
        return data[:_BLOCK_BYTES]


class _Handler(fs.FileSystemHandler):  # type: ignore[misc]
    """What pyarrow asks of a filesystem. Paths are `datasets/owner/name@COMMIT/path`."""

    def get_type_name(self) -> str:
        return "hf"

    def normalize_path(self, path: str) -> str:
        return path

    def get_file_info(self, paths: Sequence[str]) -> list[fs.FileInfo]:
        return [_info(path, _entry(path)) for path in paths]

    def get_file_info_selector(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        try:
            return [_info(path, _entry(path)) for path in _listed(selector.base_dir, selector.recursive)]
        except FileNotFoundError:
            if selector.allow_not_found:
                return []
            raise

    def open_input_file(self, path: str) -> pa.PythonFile:
        found = _entry(path)
        if found is None or found.size is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{SCHEME}{path}")
        return pa.PythonFile(_Ranges(path, found.size), mode="r")

    open_input_stream = open_input_file

    def _refuse(self, path: str = "", *_: Any, **__: Any) -> NoReturn:
        raise HubError(f"{SCHEME}{path}: {READ_ONLY}")

    create_dir = delete_dir = delete_dir_contents = delete_root_dir_contents = delete_file = move = _refuse
    copy_file = open_output_stream = open_append_stream = _refuse


READ_ONLY = "data sets of the hub are read, never written; name a folder, s3:// or gs://"


def _info(path: str, entry: Entry | None) -> fs.FileInfo:
    if entry is None:
        return fs.FileInfo(path, fs.FileType.NotFound)
    return fs.FileInfo(path, fs.FileType.Directory if entry.size is None else fs.FileType.File, size=entry.size)


@lru_cache
def filesystem() -> fs.FileSystem:
    return fs.PyFileSystem(_Handler())
