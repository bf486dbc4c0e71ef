"""References of pictures -> places where they may be read. Rows are data, so no reference is trusted.

A relative path begins at the folder that the input's files share, or at a root (`input.images.roots`), and must end,
symbolic links followed, below a folder of the input's files or below a root. Absolute paths and addresses must be below
a root. What by its name lies elsewhere is not even looked at. Nothing is fetched from the web, and an address in a row
has no options: these would say which host is asked.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from pyarrow import fs

from xner_ray.errors import Flag, InputError, RetryableError, StorageError, one_line
from xner_ray.storage import files as storage
from xner_ray.vision.pixels import Fault

_IN_TABLE = re.compile(r"(.+\.(?:parquet|arrow))#([0-9]{1,18})", re.DOTALL)
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_STORES = {"s3": "s3", "gs": "gs", "gcs": "gs"}


@dataclass(frozen=True, order=True)
class Place:
    """A file that may be read. row: of a table that holds pictures, from 0; None: the file is the picture."""

    path: str
    row: int | None = None


@dataclass(frozen=True)
class References:
    """Where pictures may lie. shared: where relative paths begin. folders: of the input's files."""

    shared: str
    folders: Sequence[str]
    roots: Sequence[str] = ()

    def find(self, reference: str) -> Place | Fault:
        """Return the place that a reference means, or why it cannot be used. RetryableError if a store does not answer.

        Of several that relative paths may mean, the first that is there.
        """
        inside = _IN_TABLE.fullmatch(reference)
        name = inside[1] if inside else reference
        try:
            found = self._found(name)
        except (ValueError, UnicodeError) as error:  # NUL, or half a surrogate pair
            return Fault(Flag.IMAGE_REFUSED, f"{type(error).__name__}: {one_line(str(error), 120)}")
        if isinstance(found, Fault):
            return found
        return Place(found, int(inside[2]) if inside else None)

    def _found(self, name: str) -> str | Fault:
        scheme = _ADDRESS.match(name)
        if scheme and scheme[1] == "file" and name.startswith("file:///"):
            return self._first(unquote(name[7:]), ("",), self.roots)
        if scheme and name[scheme.end() :].startswith("//"):
            if scheme[1] not in _STORES:
                return Fault(Flag.IMAGE_REFUSED, f"{one_line(scheme[1], 40)}:// is never fetched")
            return self._in_store(_STORES[scheme[1]], name[scheme.end() + 2 :])
        if scheme and scheme[1] in ("data", "javascript", "http", "https"):
            return Fault(Flag.IMAGE_REFUSED, f"{scheme[1]}: is no reference of a file")
        if name.startswith(("/", "~", "\\")):
            return self._first(name, ("",), self.roots)
        return self._first(name, (self.shared, *self.roots), (*self.folders, *self.roots))

    def _first(self, name: str, bases: Sequence[str], allowed: Sequence[str]) -> str | Fault:
        """Return the first file below one of the bases that lies below an allowed folder."""
        faults: list[Fault] = []
        for found in (_below(base, name, allowed) for base in bases):
            if isinstance(found, str):
                return found
            faults.append(found)
        return next((fault for fault in faults if fault.flag == Flag.IMAGE_REFUSED), faults[0])

    def _in_store(self, scheme: str, place: str) -> str | Fault:
        """Return an object that an address names, if it is below a root."""
        if "?" in place:
            return Fault(Flag.IMAGE_REFUSED, "an address with options")
        wanted = posixpath.normpath(unquote(place))
        for root, inner in _remote(self.roots):
            own = root.partition("://")[0]
            if _STORES.get(own) == scheme and wanted.startswith(inner.rstrip("/") + "/"):
                return _there(storage.within(root, wanted))
        return Fault(Flag.IMAGE_REFUSED, "below none of input.images.roots")


def _remote(folders: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each folder that is none of this machine, and its path inside its filesystem."""
    for folder in folders:
        if not storage.is_local(folder):
            yield folder, storage.locate(folder)[1]


def _below(base: str, name: str, allowed: Sequence[str]) -> str | Fault:
    """Return the file that a name means below a base, if it lies below an allowed folder."""
    if not base or storage.is_local(base):
        path = os.path.join(storage.locate(base)[1] if base else "", name)
        folders = [storage.locate(folder)[1] for folder in allowed if storage.is_local(folder)]
        real_folders = [os.path.realpath(folder) for folder in folders]
        near = [*folders, *real_folders, *([storage.locate(base)[1]] if base else [])]
        # By its name first: a look at what lies elsewhere can mount it, from a host that a stranger names
        if any(_is_inside(os.path.abspath(path), folder) for folder in near):
            real = os.path.realpath(path)
            if any(_is_inside(real, folder) for folder in real_folders):
                return _plain_file(real)
        return Fault(Flag.IMAGE_REFUSED, "outside the folders of pictures")
    inner = storage.locate(base)[1]
    wanted = posixpath.normpath(posixpath.join(inner, name))
    kind = _STORES.get(base.partition("://")[0])
    for folder, own in _remote(allowed):
        same = _STORES.get(folder.partition("://")[0]) == kind
        if same and wanted.startswith(own.rstrip("/") + "/"):
            return _there(storage.within(base, wanted))
    return Fault(Flag.IMAGE_REFUSED, "outside the folders of pictures")


def _is_inside(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip("/") + "/")


def _plain_file(path: str) -> str | Fault:
    """Return a path, without symbolic links, of a plain file of this machine; not of a device or a pipe."""
    try:
        mode = os.stat(path, follow_symlinks=False).st_mode
    except PermissionError:
        return Fault(Flag.IMAGE_REFUSED, "no right to read it")
    except (FileNotFoundError, NotADirectoryError):
        return Fault(Flag.IMAGE_MISSING, "no such file")
    except OSError as error:
        if error.filename is not None and error.errno in _NO_NAME:
            return Fault(Flag.IMAGE_MISSING, one_line(str(error.strerror), 120))
        raise RetryableError(f"{path}: cannot be reached ({one_line(str(error), 120)})") from None
    return path if stat.S_ISREG(mode) else Fault(Flag.IMAGE_REFUSED, "no plain file")


_NO_NAME = (errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EILSEQ)  # the last two: of some filesystems


def _there(address: str) -> str | Fault:
    """Return an address if an object is there; one that its store denies is no fault of the store."""
    try:
        kind = storage.info_of(address).type
    except (StorageError, InputError):  # for good; what may pass is another error
        return Fault(Flag.IMAGE_REFUSED, "its store refuses it")
    return address if kind == fs.FileType.File else Fault(Flag.IMAGE_MISSING, "no such object")
