"""How the bytes of a text are encoded, where it is not UTF-8."""

from __future__ import annotations

import re

from xner_ray.data.languages import LANGUAGES

_SURE_LINES = 3
_ENCODINGS = {"Cyrl": "windows-1251", "Hans": "gb18030", "Hant": "big5", "Jpan": "shift_jis", "Hang": "cp949"}
_ENCODINGS |= {"Arab": "windows-1256", "Grek": "windows-1253", "Hebr": "windows-1255", "Thai": "tis-620"}


def encoding_fault(data: bytes, lang: str) -> str:
    """Return what is wrong with the encoding of most of some lines, and the cure; empty if it is UTF-8."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f"is UTF-16; {cure('utf-16')}"
    pairs = len(data) // 2
    for name, start in (("utf-16le", 1), ("utf-16be", 0)):
        if pairs >= 8 and data[start::2].count(0) > pairs // 2 and data[1 - start :: 2].count(0) < pairs // 8:
            return f"is UTF-16 without a mark of its order; {cure(name)}"
    lines = [line for line in data.split(b"\n")[: -1 if b"\n" in data else None] if not line.isascii()]
    bad = [line for line in lines if not _is_utf8(line)]
    if len(bad) < _SURE_LINES or 2 * len(bad) <= len(lines):
        return ""
    counted = f"{len(bad)} of the {len(lines)} lines that go beyond ASCII are not"
    return f"is not UTF-8: {counted}; {cure(_likely(b''.join(bad), lang))}"


def cure(encoding: str) -> str:
    """Return how to convert a file."""
    return f"convert it, as with iconv -f {encoding} -t utf-8 FILE > NEW (if it is {encoding})"


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _likely(bad: bytes, lang: str) -> str:
    """Return the encoding that is most likely, by the script of the language."""
    western = "windows-1252" if re.search(rb"[\x80-\x9f]", bad) else "latin1"
    return _ENCODINGS.get(LANGUAGES[lang].script, western) if lang in LANGUAGES else western
