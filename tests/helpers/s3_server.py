"""A small S3 server in memory, over real HTTP, that can be made to fail: what pyarrow's client asks for, and no more.

moto would do the same, but botocore, which it needs, refuses the python-dateutil that is pinned here.
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

Fault = Callable[[str, str, dict[str, str]], str | None]
"""(method, /bucket/key, query) -> an error code of S3, `reset`, `hang`, or None for a proper answer."""

_STATUS = {"SlowDown": 503, "InternalError": 500, "AccessDenied": 403, "NoSuchBucket": 404, "NoSuchKey": 404}


class S3Server:
    """Buckets are there as soon as they are written to, but for those in `missing`. port: 0 is any that is free."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}  # /bucket/key -> content, time of last change
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.missing: set[str] = set()
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.clock_ahead_s = 0.0  # of this machine's clock
        self.fault: Fault = lambda method, path, query: None
        self.pause: Callable[[str, str], float] = lambda method, path: 0.0  # seconds before an answer
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"store": self})
        self.http = _Http((host, port), handler)
        self.endpoint = f"http://{host}:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def uri(self, path: str) -> str:
        return f"s3://{path}?endpoint_override={self.endpoint}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def reset(self) -> None:
        """Empty, without faults."""
        with self.lock:
            self.objects.clear()
            self.uploads.clear()
            self.missing.clear()
            self.requests.clear()
            self.clock_ahead_s = 0.0
            self.fault = lambda method, path, query: None
            self.pause = lambda method, path: 0.0

    def put(self, path: str, data: bytes) -> None:
        with self.lock:
            self.objects[path] = (data, time.time() + self.clock_ahead_s)


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that is gone."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    store: S3Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else head and body of an answer are 40 ms apart

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("Length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, code: str) -> None:
        xml = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>"
        self._answer(_STATUS[code], xml.encode(), Content_Type="application/xml")

    def _body(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if "aws-chunked" not in (self.headers.get("Content-Encoding") or ""):
            return data
        whole, at = b"", 0
        while size := int(data[at : (end := data.index(b"\r\n", at))].split(b";")[0], 16):
            whole += data[end + 2 : end + 2 + size]
            at = end + 2 + size + 2
        return whole

    def _handle(self) -> None:
        store, parts = self.store, urlsplit(self.path)
        path = unquote(parts.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        body = self._body()
        with store.lock:
            store.requests.append((self.command, path, query))
            fault = store.fault(self.command, path, query)
            pause = store.pause(self.command, path)
        time.sleep(pause)
        if fault == "hang":
            time.sleep(60)
        if fault in ("reset", "hang"):
            self.close_connection = True
            self.connection.close()
        elif fault is not None:
            self._refuse(fault)
        elif path.split("/")[1] in store.missing:
            self._refuse("NoSuchBucket")
        else:
            with store.lock:
                answer = getattr(self, f"_{self.command.lower()}")(path, query, body)
            answer()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _handle  # noqa: N815

    def _ok(self, body: str = "", status: int = 200, **headers: str) -> Callable[[], None]:
        return lambda: self._answer(status, body.encode(), Content_Type="application/xml", **headers)

    def _get(self, path: str, query: dict[str, str], body: bytes) -> Callable[[], None]:
        if path.count("/") == 1 or (path.endswith("/") and path.count("/") == 2 and "list-type" in query):
            return self._ok(self._listing(path.strip("/"), query))
        if path not in self.store.objects:
            return lambda: self._refuse("NoSuchKey")
        data, changed = self.store.objects[path]
        headers = {"Last_Modified": formatdate(changed, usegmt=True), "ETag": f'"{hashlib.md5(data).hexdigest()}"'}
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if found:
            start, end = int(found[1]), min(int(found[2] or len(data) - 1), len(data) - 1)
            headers["Content_Range"] = f"bytes {start}-{end}/{len(data)}"
            return lambda: self._answer(206, data[start : end + 1], **headers)
        return lambda: self._answer(200, data, **headers)

    def _head(self, path: str, query: dict[str, str], body: bytes) -> Callable[[], None]:
        if path.rstrip("/").count("/") == 1:
            return self._ok()
        if path not in self.store.objects:
            return lambda: self._answer(404)
        data, changed = self.store.objects[path]
        stamp = formatdate(changed, usegmt=True)
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        return lambda: self._answer(200, b"", Last_Modified=stamp, Length=str(len(data)), ETag=tag)

    def _put(self, path: str, query: dict[str, str], body: bytes) -> Callable[[], None]:
        if "uploadId" in query:
            self.store.uploads[query["uploadId"]][int(query["partNumber"])] = body
        elif path.rstrip("/").count("/") > 1:
            self.store.put(path, body)
        return self._ok(ETag=f'"{hashlib.md5(body).hexdigest()}"')

    def _post(self, path: str, query: dict[str, str], body: bytes) -> Callable[[], None]:
        if "delete" in query:
            for key in re.findall(r"<Key>(.*?)</Key>", body.decode()):
                self.store.objects.pop(f"/{path.strip('/')}/{key}", None)
            return self._ok("<DeleteResult/>")
        if "uploads" in query:
            number = f"upload{len(self.store.uploads)}"
            self.store.uploads[number] = {}
            xml = f"<UploadId>{number}</UploadId>"
            return self._ok(f"<InitiateMultipartUploadResult>{xml}</InitiateMultipartUploadResult>")
        pieces = self.store.uploads.pop(query["uploadId"])
        whole = b"".join(pieces[number] for number in sorted(pieces))
        self.store.put(path, whole)
        return self._ok('<CompleteMultipartUploadResult><ETag>"0"</ETag></CompleteMultipartUploadResult>')

    def _delete(self, path: str, query: dict[str, str], body: bytes) -> Callable[[], None]:
        if "uploadId" in query:
            self.store.uploads.pop(query["uploadId"], None)
        else:
            self.store.objects.pop(path, None)
        return self._ok(status=204)

    def _listing(self, bucket: str, query: dict[str, str]) -> str:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        most = int(query.get("max-keys", 1000))
        start = query.get("continuation-token", "")
        entries: dict[str, str] = {}
        for path in sorted(self.store.objects):
            _, owner, key = path.split("/", 2)
            if owner != bucket or not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                common = prefix + rest.partition(delimiter)[0] + delimiter
                entries[common] = f"<CommonPrefixes><Prefix>{escape(common)}</Prefix></CommonPrefixes>"
            else:
                data, changed = self.store.objects[path]
                # Milliseconds, as MinIO has them here but not in HEAD.
                stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(changed)) + f".{int(changed * 1000) % 1000:03d}Z"
                xml = f"<Key>{escape(key)}</Key><LastModified>{stamp}</LastModified><Size>{len(data)}</Size>"
                entries[key] = f"<Contents>{xml}</Contents>"
        names = [name for name in sorted(entries) if name > start]
        more = f"<NextContinuationToken>{escape(names[most - 1])}</NextContinuationToken>" if len(names) > most else ""
        head = f"<Name>{bucket}</Name><KeyCount>{len(names[:most])}</KeyCount>"
        head += f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}"
        return f"<ListBucketResult>{head}{''.join(entries[name] for name in names[:most])}</ListBucketResult>"
