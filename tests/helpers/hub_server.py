"""A model hub on loopback, as huggingface_hub's client meets the real one: paths, status codes, headers, redirects.

Its answers were looked up in what reads them: `hf_raise_for_status`, `get_hf_file_metadata` and `HfApi`.
"""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest


class HubServer:
    """Repositories with commits; `refs` says what `main` and other revisions are. `down`: every answer is a 503."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, dict[str, bytes]]] = {}  # repository -> commit -> file -> content
        self.refs: dict[str, dict[str, str]] = {}  # repository -> revision -> commit
        self.requests: list[tuple[str, str]] = []
        self.down = False
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def commit(self, repository: str, folder: Path, revision: str = "main", **changed: str) -> str:
        """Make a commit of a folder's files, with others changed, as `README="text"`; return its hash."""
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        files |= {f"{name}.md": text.encode() for name, text in changed.items()}
        number = len(self.files.setdefault(repository, {}))
        commit = hashlib.sha1(f"{repository} {number}".encode()).hexdigest()
        self.files[repository][commit] = files
        self.refs.setdefault(repository, {})[revision] = commit
        return commit

    def close(self) -> None:
        """Stop to listen: connections are refused from then on."""
        self._server.shutdown()
        self._server.server_close()

    def asked(self) -> list[str]:
        """Return the paths of requests for the commit of a revision."""
        paths = [path for _, path in self.requests if path.startswith("/api/models/")]
        return [path for path in paths if path.count("/") == 4 or "/revision/" in path]

    def join(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Make this the hub of the process, with a cache of its own."""
        from huggingface_hub import constants, hf_api

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
        self.online(monkeypatch)

    def online(self, monkeypatch: pytest.MonkeyPatch, *, offline: bool = False) -> None:
        """Set HF_HUB_OFFLINE of the process as its client has read it."""
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", offline)


class _Handler(BaseHTTPRequestHandler):
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

    def _handle(self) -> None:
        raw = urlsplit(self.path).path
        self.hub.requests.append((self.command, unquote(raw)))
        if self.hub.down:
            return self._answer(503, b"Service Unavailable")
        if raw.startswith("/cdn/"):
            return self._answer(200, self._blob(raw.rpartition("/")[2]))
        parts = [unquote(part) for part in raw.strip("/").split("/")]  # a revision is quoted, with its slashes
        api = parts[:2] == ["api", "models"]
        owner, name, *rest = parts[2:] if api else parts
        repository = f"{owner}/{name}"
        if repository not in self.hub.files:
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
            about = {"_id": "1", "id": repository, "modelId": repository, "sha": commit, "siblings": siblings}
            return self._answer(200, json.dumps({**about, "private": False, "tags": [], "downloads": 0}).encode())
        if api and kind == "tree" and not file:
            entries = [self._entry(name, data) for name, data in files.items()]
            return self._answer(200, json.dumps(entries).encode())
        if api or file not in files:
            return self._refuse(404, "EntryNotFound", X_Repo_Commit=commit)
        data = files[file]
        if not file.endswith(".safetensors"):
            return self._answer(200, data, ETag=f'"{_git_sha(data)}"', X_Repo_Commit=commit)
        oid = hashlib.sha256(data).hexdigest()  # a file of git LFS, which lies with another host
        linked = {"X_Linked_ETag": f'"{oid}"', "X_Linked_Size": str(len(data))}
        self._answer(
            302,
            b"Found",
            Location=f"{self.hub.url.replace('127.0.0.1', 'localhost')}/cdn/{oid}",
            X_Repo_Commit=commit,
            **linked,
        )

    do_GET = do_HEAD = _handle  # noqa: N815

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": _git_sha(data)}
        if name.endswith(".safetensors"):
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
        return entry

    def _blob(self, oid: str) -> bytes:
        return next(
            data
            for commits in self.hub.files.values()
            for files in commits.values()
            for data in files.values()
            if hashlib.sha256(data).hexdigest() == oid
        )


def _git_sha(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
