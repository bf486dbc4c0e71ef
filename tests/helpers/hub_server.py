"""A hub on loopback, as huggingface_hub's client meets the real one: paths, status codes, headers, redirects, ranges.

Its answers were looked up in what reads them: `hf_raise_for_status`, `get_hf_file_metadata`, `HfApi`, `HfFileSystem`.
"""

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

_LFS = (".safetensors", ".bin", ".h5", ".msgpack", ".onnx", ".model", ".parquet", ".arrow", ".gz")
_PAGE = 1000  # entries


class HubServer:
    """Repositories with commits; `refs` says what `main` and other revisions are. `down`: every answer is a 503.

    Models are `owner/name`, data sets `datasets/owner/name`. Of `gated` ones everyone may see the files' names, and who
    has the token `may` reads them; `other` is the token of an account that has not agreed. Nobody else sees anything of
    `private` ones. `fault`: the status of a request that fails, by (method, path), or 0.
    """

    handler: type[BaseHTTPRequestHandler]

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}  # repository -> commit -> file -> content
        self.refs: dict[str, dict[str, str]] = {}  # repository -> revision -> commit
        self.requests: list[tuple[str, str]] = []
        self.ranges: list[tuple[str, int]] = []  # file and bytes of each answer with a part of it
        self.sent: Counter[tuple[str, str]] = Counter()  # (repository, file): how often content of it went out
        self.gated: set[str] = set()
        self.private: set[str] = set()
        self.may, self.other = "hf_good", "hf_other"
        self.page = _PAGE
        self.fault: Callable[[str, str], int] = lambda method, path: 0
        self.down = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (self.handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def commit(self, repository: str, folder: Path, revision: str = "main", **changed: str) -> str:
        """Make a commit of a folder's files, with others changed, as `README="text"`; return its hash."""
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.put(repository, files | {f"{name}.md": text.encode() for name, text in changed.items()}, revision)

    def put(self, repository: str, files: Mapping[str, bytes], revision: str = "main") -> str:
        """Make a commit of these files alone; return its hash."""
        number = len(self.files.setdefault(repository, {}))
        content = " ".join(f"{name} {_git_sha(data)}" for name, data in sorted(files.items()))
        commit = hashlib.sha1(f"{repository} {number} {content}".encode()).hexdigest()
        self.files[repository][commit] = dict(files)
        self.refs.setdefault(repository, {})[revision] = commit
        return commit

    def close(self) -> None:
        """Stop to listen: connections are refused from then on."""
        self._server.shutdown()
        self._server.server_close()

    def asked(self) -> list[str]:
        """Return the paths of requests for the commit of a revision."""
        paths = [path for _, path in self.requests if path.startswith(("/api/models/", "/api/datasets/"))]
        return [path for path in paths if path.count("/") == 4 or "/revision/" in path]

    def join(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Make this the hub of the process, with a cache of its own, and one of ours that has the built-in encoder."""
        from huggingface_hub import constants, hf_api

        link_builtin(cache / "xner_ray")
        monkeypatch.setenv("XNER_RAY_CACHE", str(cache / "xner_ray"))
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(hf_api.api, "endpoint", self.url)
        monkeypatch.setattr("transformers.utils.hub._hf_api", None)
        patient = SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic, time=time.time)
        monkeypatch.setattr("huggingface_hub.utils._http.time", patient)  # it asks again for half a minute
        monkeypatch.setattr("xner_ray.models.commits.PAUSES_S", (0.0,) * 5)
        self.online(monkeypatch)

    def online(self, monkeypatch: pytest.MonkeyPatch, *, offline: bool = False) -> None:
        """Set HF_HUB_OFFLINE of the process as its client has read it."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("X_Size") or str(len(body)))
        self.send_header("Connection", "close")  # or a client would still reach a hub that is closed
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str, **headers: str) -> None:
        self._answer(status, json.dumps({"error": code}).encode(), X_Error_Code=code, X_Error_Message=code, **headers)

    def _json(self, value: Any, **headers: str) -> None:
        self._answer(200, json.dumps(value).encode(), **headers)

    def _handle(self) -> None:
        address = urlsplit(self.path)
        raw, query = address.path, parse_qs(address.query)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if raw.startswith("/api/") and not raw.startswith(("/api/models/", "/api/datasets/")):
            return self._answer(404)  # what the client asks for by itself
        self.hub.requests.append((self.command, unquote(raw)))
        if self.hub.down or (status := self.hub.fault(self.command, unquote(raw))):
            return self._answer(503 if self.hub.down else status, b"Service Unavailable", Retry_After="0")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if raw.startswith("/cdn/"):
            assert not token, "a token is for the hub alone"
            repository, _, file = query["of"][0].partition("@")
            return self._part(self._blob(raw.rpartition("/")[2]), (repository, file))
        parts = [unquote(part) for part in raw.strip("/").split("/")]  # a revision is quoted, with its slashes
        api, data_set = parts[0] == "api", "datasets" in parts[:2]
        parts = parts[2:] if api else parts[data_set:]
        owner, name, *rest = parts
        repository = f"datasets/{owner}/{name}" if data_set else f"{owner}/{name}"
        if token not in ("", self.hub.may, self.hub.other):
            return self._answer(401, b"{}", X_Error_Message="Invalid credentials in Authorization header")
        if repository not in self.hub.files or (repository in self.hub.private and not token):
            return self._refuse(401, "RepoNotFound")  # a private one is not told from none
        kind, revision, *inside = rest or ["revision", "main"]
        file = "/".join(inside)
        commits = self.hub.files[repository]
        commit = self.hub.refs[repository].get(revision, revision)
        if commit not in commits:
            return self._refuse(404, "RevisionNotFound")
        files = commits[commit]
        if api and kind == "revision":
            siblings = [{"rfilename": name} for name in files]
            about = {"_id": "1", "id": f"{owner}/{name}", "sha": commit, "siblings": siblings}
            about |= {} if data_set else {"modelId": repository}
            return self._json({**about, "private": False, "tags": [], "downloads": 0})
        if api and kind == "tree":
            return self._tree(files, file, query)
        if api and kind == "paths-info":
            known = {item["path"]: item for item in _entries(files)}
            return self._json([known[path] for path in parse_qs(body)["paths"] if path in known])
        if api or file not in files:
            return self._refuse(404, "EntryNotFound", X_Repo_Commit=commit)
        if repository in self.hub.gated and token != self.hub.may:
            return self._refuse(403 if token else 401, "GatedRepo")
        data = files[file]
        if not file.endswith(_LFS):
            return self._part(data, (repository, file), ETag=f'"{_git_sha(data)}"', X_Repo_Commit=commit)
        oid = hashlib.sha256(data).hexdigest()  # a file of git LFS, which lies with another host
        linked = {"X_Linked_ETag": f'"{oid}"', "X_Linked_Size": str(len(data))}
        place = f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{oid}?of={quote(f'{repository}@{file}')}"
        self._answer(302, b"Found", Location=place, X_Repo_Commit=commit, **linked)

    do_GET = do_HEAD = do_POST = _handle  # noqa: N815

    def _part(self, data: bytes, of: tuple[str, str], **headers: str) -> None:
        """Answer with a file, or with the bytes of it that are asked for."""
        if self.command == "GET":
            self.hub.sent[of] += 1
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            return self._answer(200, data, **headers)
        first = int(wanted[1])
        if first >= len(data):
            return self._answer(416, Content_Range=f"bytes */{len(data)}", **headers)
        part = data[first : int(wanted[2]) + 1 if wanted[2] else None]
        self.hub.ranges.append((unquote(urlsplit(self.path).path), len(part)))
        self._answer(206, part, Content_Range=f"bytes {first}-{first + len(part) - 1}/{len(data)}", **headers)

    def _tree(self, files: Mapping[str, bytes], folder: str, query: Mapping[str, list[str]]) -> None:
        """List a folder, page by page."""
        start = f"{folder}/" if folder else ""
        deep = query.get("recursive") == ["true"]
        below = [item for item in _entries(files) if item["path"].startswith(start)]
        found = [item for item in below if deep or "/" not in item["path"][len(start) :]]
        if not found:
            return self._refuse(404, "EntryNotFound")
        at = int(query.get("cursor", ["0"])[0])
        end, more = at + self.hub.page, {}
        if end < len(found):
            recursive = str(deep).lower()
            place = f"{self.hub.url}{quote(unquote(urlsplit(self.path).path))}?recursive={recursive}&cursor={end}"
            more = {"Link": f'<{place}>; rel="next"'}
        self._json(found[at:end], **more)

    def _blob(self, oid: str) -> bytes:
        return next(
            data
            for commits in self.hub.files.values()
            for files in commits.values()
            for data in files.values()
            if hashlib.sha256(data).hexdigest() == oid
        )


HubServer.handler = Handler


def link_builtin(cache: Path) -> None:
    """Lend a cache the built-in encoder of this machine, if it is unpacked: that takes half a minute."""
    from xner_ray.models import e5
    from xner_ray.storage.cache import cache_folder

    folder = cache_folder() / e5._FOLDER
    cache.mkdir(parents=True, exist_ok=True)
    if folder.is_dir() and not (cache / folder.name).exists():
        (cache / folder.name).symlink_to(folder)


def _entries(files: Mapping[str, bytes]) -> Iterator[dict[str, Any]]:
    """Yield what the hub says of the folders and files of a commit."""
    folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
    for name in sorted(folders):
        yield {"type": "directory", "path": name, "size": 0, "oid": hashlib.sha1(name.encode()).hexdigest()}
    for name, data in files.items():
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _git_sha(data)}
        if name.endswith(_LFS):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        yield entry


def _git_sha(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def serving_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Yield a hub of data sets that nobody has a token for, and of which nothing is remembered."""
    from xner_ray.read import find
    from xner_ray.storage import hub

    hub_server = HubServer()
    hub_server.join(monkeypatch, tmp_path / "hub-cache")
    monkeypatch.setenv("XNER_RAY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    hub.begin()
    hub._blocks.clear()
    find._head.cache_clear()
    yield hub_server
    hub_server.close()
