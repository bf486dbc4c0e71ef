"""Pictures by their references: each file read once, each content decoded once, in bounded memory.

Files are read by several threads, since stores answer slowly; at most `AT_ONCE` of them are in memory, and one large
picture besides. Failures of a store that may pass are a RetryableError, as elsewhere.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from xner_ray.data.row import refuse_extension_types
from xner_ray.errors import Flag, InputError
from xner_ray.read.shapes.schema import embedded
from xner_ray.recipe.input import Input
from xner_ray.storage import files as storage
from xner_ray.vision.pixels import Fault, decode
from xner_ray.vision.references import Place, References

if TYPE_CHECKING:
    from PIL.Image import Image

AT_ONCE = 8  # files, or rows of a table
_SWOLLEN = 50
"""Of bytes in a column of pictures to those in its file: they are compressed already, so more is a bomb."""


@dataclass(frozen=True)
class Loaded:
    """What came of a reference. id: SHA-256 of the bytes, in hexadecimal; None where there are none.

    image: of the first reference with these bytes alone; None too where they were not asked for.
    """

    reference: str
    id: str | None = None
    fault: Fault | None = None
    image: Image | None = None


class Loader:
    """Loads pictures within limits. side: of what a model reads, in pixels, see `pixels.decode`."""

    def __init__(self, references: References, *, max_mb: float, max_pixels: int, side: int, column: str) -> None:
        self.references, self.max_bytes, self.max_pixels = references, int(max_mb * 1e6), max_pixels
        self.side, self.column = side, column

    @classmethod
    def of(cls, given: Input, shared: str, folders: Sequence[str], side: int) -> Loader:
        """Return what loads the pictures of an input whose files lie in some folders."""
        images, references = given.images, References(shared, folders, given.images.roots)
        return cls(
            references,
            max_mb=images.max_mb,
            max_pixels=images.max_pixels,
            side=side,
            column=str(given.columns.image),
        )

    def load(
        self, references: Iterable[str], is_known: Callable[[str], bool] = lambda identity: False
    ) -> Iterator[Loaded]:
        """Yield what comes of each distinct reference, in the order of their places.

        is_known: asked of each id whether its picture need not be decoded. Each content is decoded once, and a broken
        one is broken for all that refer to it.
        """
        places: dict[Place, list[str]] = {}
        for reference in sorted(set(references)):
            place = self.references.find(reference)
            if isinstance(place, Fault):
                yield Loaded(reference, fault=place)
            else:
                places.setdefault(place, []).append(reference)
        seen: dict[str, Fault | None] = {}
        for place, data in self._contents(sorted(places, key=lambda one: (one.path, one.row or 0))):
            image = None
            if isinstance(data, Fault):
                yield from (Loaded(reference, fault=data) for reference in places[place])
                continue
            identity = hashlib.sha256(data).hexdigest()
            if identity not in seen:
                found = None if is_known(identity) else decode(data, self.side, self.max_pixels)
                seen[identity], image = (found, None) if isinstance(found, Fault) else (None, found)
            for reference in places[place]:
                fault = seen[identity]
                yield Loaded(reference, None if fault else identity, fault, image)
                image = None

    def _contents(self, places: Sequence[Place]) -> Iterator[tuple[Place, bytes | Fault]]:
        """Yield the bytes of each place, or why there are none."""
        for inside, own in groupby(
            places, key=lambda place: (place.row is not None, place.path if place.row is not None else "")
        ):
            group = list(own)
            if inside[0]:
                yield from self._of_table(inside[1], [place.row or 0 for place in group])
                continue
            with ThreadPoolExecutor(AT_ONCE) as pool:
                for first in range(0, len(group), AT_ONCE):
                    some = group[first : first + AT_ONCE]
                    yield from zip(some, pool.map(self._read, [place.path for place in some]), strict=True)

    def _read(self, path: str) -> bytes | Fault:
        """Return the bytes of a file that is small enough, as they lie there: nothing is unpacked."""
        filesystem, inner = storage.locate(path)
        try:
            if storage.is_local(path):
                return self._read_local(inner)
            size = filesystem.get_file_info(inner).size
            if size is not None and size > self.max_bytes:
                return self._too_large(size)
            with filesystem.open_input_stream(inner, compression=None) as stream:
                data = bytes(stream.read(self.max_bytes + 1))
        except FileNotFoundError:
            return Fault(Flag.IMAGE_MISSING, "no such file")
        except PermissionError:
            return Fault(Flag.IMAGE_REFUSED, "no right to read it")
        except OSError as error:
            if error.errno == errno.ELOOP:
                return Fault(Flag.IMAGE_REFUSED, "no plain file")
            if error.errno is None and not storage.transient(error) and not storage.is_local(path):
                return Fault(Flag.IMAGE_REFUSED, "its store refuses it")
            raise storage.failure(path, "read", error) from None
        return self._too_large(len(data)) if len(data) > self.max_bytes else data

    def _read_local(self, path: str) -> bytes | Fault:
        """Read a plain file; what has taken its place since it was found, as a link or a pipe, is refused."""
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as stream:
            state = os.fstat(stream.fileno())
            if not stat.S_ISREG(state.st_mode):
                return Fault(Flag.IMAGE_REFUSED, "no plain file")
            data = b"" if state.st_size > self.max_bytes else stream.read(self.max_bytes + 1)
        size = max(state.st_size, len(data))
        return self._too_large(size) if size > self.max_bytes else data

    def _too_large(self, size: int) -> Fault:
        return Fault(Flag.IMAGE_TOO_LARGE, f"{size / 1e6:.1f} MB, input.images.max_mb is {self.max_bytes / 1e6:g}")

    def _of_table(self, path: str, rows: Sequence[int]) -> Iterator[tuple[Place, bytes | Fault]]:
        """Yield the bytes of some rows of a table, ascending. A row without bytes has a path, which must be good."""
        found: set[int] = set()  # without their bytes: they may be all of a unit
        try:
            for row, value in _rows_of(path, self.column, rows, self.max_bytes):
                found.add(row)
                yield Place(path, row), value if isinstance(value, Fault) else self._embedded(value)
        except (pa.ArrowException, InputError, OSError, KeyError, ValueError) as error:
            if isinstance(error, OSError) and storage.transient(error):
                raise storage.failure(path, "read", error) from None
            fault = Fault(Flag.IMAGE_BROKEN, f"no table with pictures as {{bytes, path}} ({type(error).__name__})")
            yield from ((Place(path, row), fault) for row in rows if row not in found)
            return
        missing = Fault(Flag.IMAGE_MISSING, "the table has no such row")
        yield from ((Place(path, row), missing) for row in rows if row not in found)

    def _embedded(self, value: pa.StructScalar) -> bytes | Fault:
        data = value["bytes"].as_py() if value.is_valid else None
        if data is not None:
            return self._too_large(len(data)) if len(data) > self.max_bytes else bytes(data)
        try:
            path = value["path"].as_py() if value.is_valid else None
        except UnicodeDecodeError:
            return Fault(Flag.IMAGE_REFUSED, "its path is no UTF-8")
        if not isinstance(path, str) or not path:
            return Fault(Flag.IMAGE_MISSING, "neither bytes nor a path")
        place = self.references.find(path)
        if isinstance(place, Fault):
            return place
        return self._read(place.path) if place.row is None else Fault(Flag.IMAGE_REFUSED, "a table inside a table")


def _rows_of(path: str, column: str, rows: Sequence[int], most: int) -> Iterator[tuple[int, pa.StructScalar | Fault]]:
    """Yield the pictures of some rows, ascending, of a column {bytes, path}; nothing else of the file is read.

    most: bytes of a picture. InputError for a column of another type: what has code inside is not even looked at.
    """
    filesystem, inner = storage.locate(path)
    with filesystem.open_input_file(inner) as stream:
        if storage.bare(path).endswith(".arrow"):
            yield from _rows_of_stream(stream, path, column, rows)
            return
        table = pq.ParquetFile(stream)
        column = _column_of(table.schema_arrow, column, path)
        first = 0
        for group in range(table.num_row_groups):
            last = first + table.metadata.row_group(group).num_rows
            own = [row for row in rows if first <= row < last]
            if own and (fault := _swollen(table.metadata.row_group(group), column, most)) is not None:
                yield from ((row, fault) for row in own)
            elif own:
                begin = first
                for batch in table.iter_batches(AT_ONCE, row_groups=[group], columns=[column], use_threads=False):
                    yield from _picked(batch, column, begin, own)
                    begin += batch.num_rows
                    if begin > own[-1]:
                        break
            first = last


def _swollen(group: pq.RowGroupMetaData, column: str, most: int) -> Fault | None:
    """Return why a row group is not read: one of its cells would be too large, or it is a bomb."""
    chunks = [group.column(number) for number in range(group.num_columns)]
    own = [chunk for chunk in chunks if chunk.path_in_schema == f"{column}.bytes"]
    size = sum(chunk.total_uncompressed_size for chunk in own)
    packed = sum(chunk.total_compressed_size for chunk in own)
    if size <= AT_ONCE * most or size <= min(group.num_rows * most, _SWOLLEN * packed):
        return None
    return Fault(Flag.IMAGE_TOO_LARGE, f"{group.num_rows} rows of {size / 1e6:.0f} MB, {packed / 1e6:.1f} in the file")


def _rows_of_stream(
    stream: pa.NativeFile, path: str, column: str, rows: Sequence[int]
) -> Iterator[tuple[int, pa.StructScalar]]:
    reader = pa.ipc.open_stream(stream)
    column = _column_of(reader.schema, column, path)
    first = 0
    for batch in reader:
        if rows and first > rows[-1]:
            return
        yield from _picked(batch, column, first, rows, validate=True)
        first += batch.num_rows


def _picked(
    batch: pa.RecordBatch, column: str, first: int, rows: Sequence[int], *, validate: bool = False
) -> Iterator[tuple[int, pa.StructScalar]]:
    """Yield the pictures of some rows of a batch that begins at row `first`."""
    # Others may have the column's name too, or one that Parquet spells alike: a.b and the part b of a
    (values,) = (
        values
        for field, values in zip(batch.schema, batch.columns, strict=True)
        if field.name == column and embedded(field.type)
    )
    if validate:
        values.validate(full=True)
    for row in rows:
        if first <= row < first + len(values):
            yield row, values[row - first]


def _column_of(schema: pa.Schema, column: str, path: str) -> str:
    """Return the name of the column of pictures: the given one, or the only one that there is. InputError."""
    refuse_extension_types(schema, path)
    found: list[str] = [field.name for field in schema if embedded(field.type)]
    if column in found and found.count(column) == 1:
        return column
    if len(found) != 1:
        raise InputError(f"{path}: has not one column of pictures as {{bytes, path}}")
    return found[0]
