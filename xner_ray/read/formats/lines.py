"""Lines of a file, and the blocks between blank lines, as a stream from any byte.

Lines end at LF or CRLF and nowhere else (U+2028 and its like are characters of the text); a BOM is skipped. A CR
inside a line is an error: a file without any LF is refused, elsewhere the row is malformed.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence

from xner_ray.errors import InputError
from xner_ray.read.record import File, Place
from xner_ray.storage import files as storage

LONE_CR = "carriage returns (CR) stand alone; lines must end with LF or CRLF"
_CHUNK_BYTES = 1 << 20
_LONGEST_BYTES = 1 << 26  # of a line, or a sentence
_BEFORE_BYTES = 1 << 12  # looked at before a cut, for blank lines that it falls into
_BOM = b"\xef\xbb\xbf"
_BLANK = rb"(?:[ \t\r]|\xc2\xa0|\xe3\x80\x80)*\n"  # U+00A0 and U+3000 too, as editors leave them
_BLANK_LINES = re.compile(rb"(?:%b)+" % _BLANK)
_GAP = re.compile(rb"\n(?:%b)+" % _BLANK)
_LINE_END = re.compile(rb"\r+\n")


def chunks(file: File, offset: int) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, bytes) from `offset` on, without a BOM; InputError if the file cannot be read."""
    filesystem, inner = storage.locate(file.path)
    zipped = file.ends_with(".gz")
    try:
        with filesystem.open_input_file(inner) as source:
            if not zipped:
                source.seek(offset)
            stream = gzip.GzipFile(fileobj=source) if zipped else source
            while chunk := stream.read(_CHUNK_BYTES):
                if offset == 0 and chunk.startswith((b"\xff\xfe", b"\xfe\xff")):
                    raise InputError(f"{file.path}: is UTF-16; convert it to UTF-8, as with iconv -f utf-16 -t utf-8")
                if offset == 0 and b"\n" not in chunk and b"\r" in chunk.rstrip(b"\r"):
                    raise InputError(f"{file.path}: {LONE_CR}; convert it, as with tr '\\r' '\\n'")
                bom = len(_BOM) if offset == 0 and chunk.startswith(_BOM) else 0
                yield offset + bom, chunk[bom:]
                offset += len(chunk)
    except (OSError, EOFError, zlib.error) as error:
        raise storage.failure(file.path, "read", error, InputError) from None


def byte_lines(file: File, start: int, stop: int | None = None) -> Iterator[tuple[int, bytes]]:
    """Yield (byte offset, line without its end) from the byte `start` on; stop: lines that begin before it."""
    rest = b""
    at = start
    for offset, chunk in chunks(file, start):
        if not rest:
            at = offset
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if stop is not None and at >= stop:
                return
            yield at, line.rstrip(b"\r")
            at += len(line) + 1
        if len(rest) > _LONGEST_BYTES:
            raise InputError(f"{file.path}: a line is longer than {_LONGEST_BYTES >> 20} MiB; not {file.format}")
    if rest and (stop is None or at < stop):
        yield at, rest.rstrip(b"\r")


def decode(raw: bytes) -> tuple[str, bool]:
    """Return the text, with replacement characters where it was not UTF-8, and whether it was UTF-8."""
    try:
        return raw.decode(), True
    except UnicodeDecodeError:
        return raw.decode(errors="replace"), False


def blocks(file: File, start: Place, stop: int | None = None) -> Iterator[tuple[int, int, bytes]]:
    """Yield (byte offset, lines before it, lines) of each block between blank lines; no block is empty.

    stop: blocks that begin before this byte.
    """
    line = start.line
    rest = b""
    at = start.offset
    for offset, chunk in chunks(file, start.offset):
        if not rest:
            at = offset
        rest += chunk
        begin = 0
        if leading := _BLANK_LINES.match(rest):  # only at the start of the file
            begin = leading.end()
            line += rest.count(b"\n", 0, begin)
        for gap in _GAP.finditer(rest, begin):
            if gap.end() == len(rest):
                break  # the gap may continue in the next chunk
            if stop is not None and at + begin >= stop:
                return
            yield at + begin, line, _unix(rest[begin : gap.start()])
            line += rest.count(b"\n", begin, gap.end())
            begin = gap.end()
        at, rest = at + begin, rest[begin:]
        if len(rest) > _LONGEST_BYTES:
            raise InputError(f"{file.path}: no blank line in {_LONGEST_BYTES >> 20} MiB; not {file.format}")
    if (rest := _without_blank_end(rest)) and (stop is None or at < stop):
        yield at, line, _unix(rest)


def _without_blank_end(block: bytes) -> bytes:
    """Return lines without the blank ones at their end; the last one keeps its tabs, which may part empty cells."""
    while True:
        before, _, last = block.rpartition(b"\n")
        if not block or last.decode(errors="replace").strip():
            return block
        block = before


def _unix(block: bytes) -> bytes:
    return _LINE_END.sub(b"\n", block).rstrip(b"\r") if b"\r" in block else block


def line_pieces(file: File, wanted: Sequence[int]) -> list[int]:
    """Return the bytes nearest behind those wanted at which a line begins."""
    return _pieces(file, wanted, re.compile(rb"\n"))


def block_pieces(file: File, wanted: Sequence[int]) -> list[int]:
    """Return the bytes nearest behind those wanted at which a block begins."""
    return _pieces(file, wanted, _GAP)


def _pieces(file: File, wanted: Sequence[int], gap: re.Pattern[bytes]) -> list[int]:
    found: list[int] = []
    for cut in wanted:
        begin = max(0, cut - _BEFORE_BYTES)
        rest, at = b"", begin
        for offset, chunk in chunks(file, begin):
            at, rest = (offset, chunk) if not rest else (at, rest + chunk)
            ends = (match.end() for match in gap.finditer(rest) if match.end() < len(rest))
            if (end := next((end for end in ends if at + end >= cut), None)) is not None:
                found.append(at + end)
                break
    return sorted(set(found))
