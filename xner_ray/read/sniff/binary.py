"""Files that are no text: archives, workbooks, pickles and the like, by their first bytes."""

from __future__ import annotations

_ZIPPED = "unpack it, and name the file or folder inside"
_KINDS: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "is Parquet; set {key}: parquet"),
    (b"\x1f\x8b", "is compressed with gzip; let its name end in .gz"),
    (b"BZh", f"is compressed with bzip2; {_ZIPPED}"),
    (b"\xfd7zXZ", f"is compressed with xz; {_ZIPPED}"),
    (b"\x28\xb5\x2f\xfd", f"is compressed with zstd; {_ZIPPED}"),
    (b"7z\xbc\xaf", f"is an archive of 7-Zip; {_ZIPPED}"),
    (b"Rar!", f"is a RAR archive; {_ZIPPED}"),
    (b"%PDF", "is a PDF; write its text into a .txt, or what was annotated as JSON lines"),
    (b"SQLite format 3\0", "is a database of SQLite; write its rows as JSON lines or CSV (of Prodigy: prodigy db-out)"),
    (b"\xd0\xcf\x11\xe0", "is a document of Office before 2007; save a workbook as CSV UTF-8, a text as .txt"),
    (b"\x93NUMPY", "is an array of NumPy; write it as JSON lines or Parquet"),
)


def binary_fault(head: bytes) -> str:
    """Return what a file is instead of text, and the cure; empty if nothing says that it is no text.

    >>> binary_fault(b"BZh91AY")
    'is compressed with bzip2; unpack it, and name the file or folder inside'
    """
    for sign, what in _KINDS:
        if head.startswith(sign):
            return what
    if head.startswith(b"PK\x03\x04"):
        if b"xl/" in head:
            return "is a workbook of Excel; save its sheet as CSV UTF-8"
        if b"word/" in head:
            return "is a document of Word; save it as plain text in UTF-8"
        return f"is a zip archive; {_ZIPPED}"
    if head[257:262] == b"ustar":
        return f"is a tar archive; {_ZIPPED}"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and b"\0" in head[:64]:
        return "holds pickled Python objects, which can run code when they are loaded; write them as JSON lines"
    return ""
