"""A hub on loopback that takes data sets too, as `HfApi.create_repo`, `preupload_lfs_files` and `create_commit` ask."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.helpers.hub_server import Handler, HubServer

_LARGE = (".parquet",)


class UploadHub(HubServer):
    """Accepts pushes with the token `may`. uploaded: content of large files, by SHA-256; puts: each that was sent.

    messages: of commits. private_made: repositories that were made private.
    """

    def __init__(self) -> None:
        self.uploaded: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.messages: list[str] = []
        self.private_made: set[str] = set()
        super().__init__()


class _Uploading(Handler):
    hub: UploadHub

    def do_PUT(self) -> None:  # noqa: N802
        data = self.rfile.read(int(self.headers["Content-Length"]))
        oid = unquote(urlsplit(self.path).path).rpartition("/")[2]
        self.hub.requests.append(("PUT", self.path))
        if status := self.hub.fault("PUT", self.path):
            return self._answer(status)
        assert hashlib.sha256(data).hexdigest() == oid and not self.headers.get("Authorization")
        self.hub.uploaded[oid] = data
        self.hub.puts.append(oid)
        self._answer(200)

    def do_POST(self) -> None:  # noqa: N802
        path = unquote(urlsplit(self.path).path)
        parts = path.strip("/").split("/")
        if "paths-info" in parts:
            return self._handle()
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(("POST", path))
        if path == "/api/validate-yaml":
            return self._json({"errors": [], "warnings": []})
        if status := self.hub.fault("POST", path):
            return self._answer(status)
        if (self.headers.get("Authorization") or "").removeprefix("Bearer ") != self.hub.may:
            return self._answer(403, b"{}", X_Error_Message="Forbidden: pass a token with write access")
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path.endswith("/info/lfs/objects/batch"):
            return self._json({"objects": [self._wanted(one) for one in json.loads(body)["objects"]]})
        name, kind, revision = "datasets/" + "/".join(parts[2:4]), parts[4], "/".join(parts[5:])
        if kind == "branch":
            self.hub.refs[name].setdefault(revision, self.hub.refs[name]["main"])
            return self._json({})
        if kind == "preupload":
            said = [{"path": one["path"], "shouldIgnore": False} for one in json.loads(body)["files"]]
            modes = [{**one, "uploadMode": "lfs" if one["path"].endswith(_LARGE) else "regular"} for one in said]
            return self._json({"files": modes})
        assert kind == "commit", path
        self._commit(name, revision, [json.loads(line) for line in body.decode().splitlines()])

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or "me"
        name = f"datasets/{owner}/{wanted['name']}"
        if name in self.hub.files:
            return self._answer(409, json.dumps({"error": "exists", "url": f"{self.hub.url}/{name}"}).encode())
        self.hub.put(name, {".gitattributes": b"*.parquet filter=lfs\n"})
        if wanted.get("private") or wanted.get("visibility") == "private":
            self.hub.private_made.add(name)
        self._json({"url": f"{self.hub.url}/{name}", "name": name})

    def _wanted(self, one: dict[str, Any]) -> dict[str, Any]:
        """Ask for a large file, unless its content is here."""
        found = {"oid": one["oid"], "size": one["size"]}
        if one["oid"] in self.hub.uploaded:
            return found
        return {**found, "actions": {"upload": {"href": f"{self.hub.url}/upload/{one['oid']}"}}}

    def _commit(self, name: str, revision: str, lines: list[dict[str, Any]]) -> None:
        (header, *changes) = lines
        now = self.hub.refs[name][revision]
        if header["value"].get("parentCommit", now) != now:
            return self._answer(412, b"{}", X_Error_Message="A commit has happened since")
        files = dict(self.hub.files[name][now])
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploaded[value["oid"]]
            else:
                assert change["key"] == "deletedFile", change
                del files[value["path"]]
        self.hub.messages.append(header["value"]["summary"])
        commit = self.hub.put(name, files, revision)
        self._json({"success": True, "commitOid": commit, "commitUrl": f"{self.hub.url}/{name}/commit/{commit}"})


UploadHub.handler = _Uploading
