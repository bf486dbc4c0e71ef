"""Damage to files: bytes, lines, cells, values of JSON, cells of tables. All by a given random generator."""

from __future__ import annotations

import copy
import gzip
import json
import random
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
from fuzz_objects import table_bytes
from fuzz_seeds import Seed

ODD = (
    *("", " ", "\t", "\n", "\r", "\r\n", "\x00", "\x1b[2J", "\x7f", "\x85", "\u00a0", "\u2028", "\u2029", "\u3000"),
    *("\u200b", "\ufeff", "\u200d", "\u0301", "\u0301\u0301", "\u202e", "\u00ad", "\u2060", "\ufffd", "\U0010ffff"),
    *("#", "# id = x", "# id = s1", "#\t", "-DOCSTART-", "-DOCSTART- -X- O O", "_", "*", "-", "0", "1", "01", "1-2"),
    *("B-", "I-", "B-PER", "B-B-PER", "I-LOC", "E-PER", "S-", "O", "o", "PER-B", "B_PER", "PERSON", "(X*", "*)", "(X)"),
    *('"', '""', "'", "\\", "\\n", "\\u0000", "{", "}", "[", "]", "[1]", "<PER>", "</PER>", "](", "&lt;", ",", ";"),
    *("null", "NaN", "Infinity", "-1", "1e309", "9" * 30, "9" * 5000, "٣", "²", "½", "0x10", "1_000", "true"),
    *("x" * 300, "a b " * 400, "😀" * 50, "é", "e\u0301", "ﷺ", "李", "a\x00b", "a\tb", "0-0", "3-", "999999999-0"),
    *("#begin document (x); part 000", "#end document", "T1\tPER 0 1\tx", "#Text=x", "1-1\t0-1\tx", "# newdoc"),
)
KEYS = (*ODD[:30], "text", "tokens", "spans", "label", "id", "split", "data", "passages", "answer", "a.b")
NUMBERS = (0, 1, -1, 2, 7, 255, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 0.0, 0.5, 1e308, -0.0)
_BYTES = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xef\xbb\xbf", b"\x00", b"\r", b"\n")


def damaged_text(rng: random.Random, text: str) -> str:
    """Damage one piece of text."""
    odd = rng.choice(ODD)
    at, other = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
    return rng.choice((odd, text[:at] + odd + text[at:], text[:at] + text[other:], text[:at], text[at:] + text[:at]))


def damaged_line(rng: random.Random, line: str) -> str:
    """Damage a line: its text, its cells, its separators or its end."""
    body = line.rstrip("\r\n")
    end = line[len(body) :]
    kind = rng.randrange(9)
    mark = next((mark for mark in "\t ," if mark in body), None)
    if kind < 4 and mark:
        cells = body.split(mark)
        at = rng.randrange(len(cells))
        if kind == 0:
            cells[at] = damaged_text(rng, cells[at])
        elif kind == 1:
            del cells[at]
        elif kind == 2:
            cells.insert(at, cells[rng.randrange(len(cells))])
        else:
            cells[at], cells[-1] = cells[-1], cells[at]
        return mark.join(cells) + end
    if kind == 4 and mark:
        return body.replace(mark, rng.choice((" ", "\t", "  ", "\u00a0", ",", ";", "|", "\u3000"))) + end
    if kind == 5:
        return body + rng.choice(("", "\r\n", "\r", "\n\n", " \n", "\t\n", "\u2028", "\x85", "\r\r\n", "\x0c\n"))
    if kind == 6:
        return rng.choice(ODD) + end
    return damaged_text(rng, body) + end


def damaged_lines(rng: random.Random, lines: list[str], share: float, *, fixed: bool = False) -> tuple[list[str], int]:
    """Damage a share of lines, at least one, and move some. fixed: their number stays. Returns how many changed."""
    lines = list(lines)
    places = [at for at in range(len(lines)) if rng.random() < share] or [rng.randrange(len(lines))]
    for at in places:
        kind = rng.randrange(10)
        if kind == 0:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        elif kind == 1 and not fixed:
            lines[at] = ""
        elif kind == 2 and not fixed:
            lines[at] = lines[at] + lines[rng.randrange(len(lines))]
        else:
            lines[at] = damaged_line(rng, lines[at])
            if fixed:
                lines[at] = lines[at].replace("\n", "") + "\n"
    return lines, len(places)


def damaged_value(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """Damage a value of JSON somewhere inside: types, keys, numbers, text, nesting."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.85:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = rng.choice(keys)
        kind = rng.randrange(12)
        if kind == 0:
            del value[key]
        elif kind == 1 and isinstance(value, dict):
            value[rng.choice(KEYS)] = value.pop(key)
        elif kind == 1:
            value.append(copy.deepcopy(value[key]))
        elif kind == 2 and isinstance(value, list):
            value.reverse()
        else:
            value[key] = damaged_value(rng, value[key], depth + 1)
        return value
    if rng.random() < 0.4 and isinstance(value, str):
        return damaged_text(rng, value)
    if rng.random() < 0.6 and type(value) is int:
        return rng.choice((*NUMBERS, value + 1, value - 1, -value, str(value), float(value)))
    return _other(rng, value)


def _other(rng: random.Random, value: Any) -> Any:
    """Return a value of another kind."""
    made: tuple[Callable[[], Any], ...] = (
        lambda: None,
        lambda: rng.choice((True, False)),
        lambda: rng.choice(NUMBERS),
        lambda: rng.choice(ODD),
        lambda: float(rng.choice(("nan", "inf", "-inf"))),
        lambda: "a\ud83d" if rng.random() < 0.5 else "\udc00",
        lambda: [value],
        lambda: [],
        lambda: {},
        lambda: {"text": value},
        lambda: {rng.choice(ODD): value},
        lambda: [value, copy.deepcopy(value)],
        lambda: [[]],
        lambda: _deep(rng.choice((5, 200))),
    )
    return rng.choice(made)()


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


def _dumped(rng: random.Random, value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(value)
    return text


def damaged_bytes(rng: random.Random, data: bytes, count: int) -> bytes:
    """Damage single bytes and ranges of them."""
    made = bytearray(data)
    for _ in range(count):
        at, size = rng.randint(0, len(made)), rng.choice((1, 1, 2, 40))
        kind = rng.randrange(5)
        if kind == 0:
            made[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            made[at:at] = rng.choice(_BYTES)
        elif kind == 2:
            del made[at : at + size]
        elif kind == 3:
            made[at:at] = made[rng.randint(0, len(made)) :][:size]
        elif at < len(made):
            made[at] ^= 1 << rng.randrange(8)
    return bytes(made)


def recoded(rng: random.Random, data: bytes) -> bytes:
    """Return text in another encoding, wholly or from some byte on, or cut, or with other line ends."""
    kind = rng.randrange(9)
    text = data.decode(errors="replace")
    at = rng.randint(0, len(text))
    if kind == 0:
        return text.encode(rng.choice(("utf-16", "utf-16-le", "utf-32")))
    if kind == 1:
        return text.encode("latin-1", errors="replace")
    if kind == 2:
        encoding = rng.choice(("latin-1", "cp1252", "utf-16-be", "shift_jis"))
        return text[:at].encode() + text[at:].encode(encoding, "replace")
    if kind == 3:
        return b"\xef\xbb\xbf" * rng.choice((1, 2)) + data
    if kind == 4:
        return data.replace(b"\n", rng.choice((b"\r\n", b"\r", b"\n\n", b"\n\r", b"\r\r\n")))
    if kind == 5:
        return data[: rng.randint(0, len(data))]
    if kind == 6:
        return data.replace(b"\n\n", b"\n")
    if kind == 7:
        return text[:at].encode() + b"\xef\xbb\xbf" + text[at:].encode()
    return data.rstrip()


def mutated(rng: random.Random, seed: Seed, other: Callable[[], Seed]) -> tuple[bytes, int]:
    """Return a damaged file and the number of its lines, records or values that were damaged. other: mixes in."""
    share = rng.choice((0.0, 0.05, 0.1, 0.2, 0.4, 0.8))
    fixed = seed.name.endswith(".links")
    if seed.table is not None:
        table, count = _damaged_table(rng, seed.table, share)
        data = table_bytes(table, seed.name, rng)
        return (damaged_bytes(rng, data, 3), count + 3) if rng.random() < 0.15 else (data, count)
    if seed.packed is not None:
        return _packed(rng, seed.packed, share)
    if seed.values is not None:
        data, count = _objects(rng, seed, share)
    else:
        lines, count = damaged_lines(rng, seed.lines or [], share, fixed=fixed)
        if rng.random() < 0.05 and not fixed and (more := other().lines):
            at = rng.randint(0, len(lines))
            lines[at:at] = more[: rng.randint(1, len(more))]
        data = "".join(lines).encode(errors="surrogatepass")
    if rng.random() < 0.15 and not fixed:
        data = recoded(rng, data)
    if rng.random() < 0.1:
        data, count = damaged_bytes(rng, data, 3), count + 3
    return data, count


def zipped(rng: random.Random, data: bytes) -> bytes:
    """Return a file of gzip, sometimes a damaged one."""
    data = gzip.compress(data, 1)
    return damaged_bytes(rng, data, 1) if rng.random() < 0.3 else data


def _objects(rng: random.Random, seed: Seed, share: float) -> tuple[bytes, int]:
    values = copy.deepcopy(seed.values or [])
    places = [at for at in range(len(values)) if rng.random() < share] or [rng.randrange(len(values))]
    for at in places:
        for _ in range(rng.choice((1, 1, 3))):
            values[at] = damaged_value(rng, values[at])
    if rng.random() < 0.1:  # the same damage to all, as another program would write it
        key = rng.choice([key for one in values if isinstance(one, dict) for key in one] or ["x"])
        made = _other(rng, 1)
        values = [{**one, key: made} if isinstance(one, dict) else one for one in values]
    if seed.name.endswith(".json"):
        whole: Any = values
        if rng.random() < 0.15:
            whole = {rng.choice(("data", "annotations", "x")): values, "classes": ["PER"]}
        text = json.dumps(whole, indent=rng.choice((None, 1)))
        lines = [f"{line}\n" for line in text.split("\n")]
    else:
        lines = [_dumped(rng, value) + "\n" for value in values]
    if rng.random() < 0.3:
        lines, more = damaged_lines(rng, lines, share / 4)
        return "".join(lines).encode(errors="surrogatepass"), len(places) + more
    return "".join(lines).encode(errors="surrogatepass"), len(places)


def _packed(rng: random.Random, packed: dict[str, Any], share: float) -> tuple[bytes, int]:
    """Damage the parts of a DocBin, or its bytes."""
    made = copy.deepcopy(packed)
    cells = made["tokens"]
    places = [at for at in range(len(cells)) if rng.random() < share] or [0]
    for at in places:
        column = rng.randrange(4)
        same = cells[rng.randrange(len(cells))][column]
        cells[at][column] = same if rng.random() < 0.95 else rng.choice((0, 1, 2, 3, 4, 99, 2**64 - 1))
    count = len(places)
    if rng.random() < 0.3:
        key = rng.choice(list(made))
        part = made.pop(key)
        if rng.random() < 0.9:
            made[key] = damaged_value(rng, part)
        count += 1
    for key, kind in (("tokens", "<u8"), ("lengths", "<i4"), ("spaces", bool)):
        with suppress(KeyError, ValueError, TypeError, OverflowError):
            made[key] = np.array(made[key], kind).tobytes()
    data = msgpack.packb(_packable(made), use_bin_type=True)
    if rng.random() < 0.1:
        data = damaged_bytes(rng, data, 3)
    data = zlib.compress(data, 1)
    return (damaged_bytes(rng, data, 2), count + 2) if rng.random() < 0.1 else (data, count)


def _packable(value: Any) -> Any:
    """Return a value that MessagePack can hold."""
    if isinstance(value, dict):
        return {_packable(key): _packable(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_packable(one) for one in value]
    if type(value) is int and not -(2**63) <= value < 2**64:
        return float(value)
    return value.encode(errors="surrogatepass") if isinstance(value, str) and not value.isprintable() else value


def _damaged_table(rng: random.Random, table: pa.Table, share: float) -> tuple[pa.Table, int]:
    """Damage cells within their types, then sometimes a column: its name, its type, its presence."""
    count = 0
    for number, column in enumerate(table.schema):
        if rng.random() < 0.5:
            continue
        values = table.column(number).to_pylist()
        places = [at for at in range(len(values)) if rng.random() < share] or [rng.randrange(len(values))]
        for at in places:
            values[at] = _cell(rng, values[at], column.type)
        count += len(places)
        table = table.set_column(number, column, pa.array(values, column.type))
    if table.schema.metadata and rng.random() < 0.3:
        notes = {key: json.loads(value) for key, value in table.schema.metadata.items()}
        notes = {key: json.dumps(damaged_value(rng, value)).encode() for key, value in notes.items()}
        table, count = table.replace_schema_metadata(notes), count + 1
    if rng.random() < 0.15:
        count += 1
        number = rng.randrange(table.num_columns)
        column = table.schema.field(number)
        kind = rng.randrange(5)
        if kind == 0:
            table = table.remove_column(number)
        elif kind == 1:
            name = rng.choice((*ODD[:30], "text", "tokens", "spans", "ner_tags", "row", "status", "split"))
            table = table.rename_columns([name if at == number else old for at, old in enumerate(table.schema.names)])
        elif kind == 2:
            table = table.set_column(number, column.name, pa.nulls(len(table), column.type))
        elif kind == 3:
            table = table.set_column(number, column.name, pa.array([str(v) for v in table.column(number).to_pylist()]))
        else:
            table = table.slice(0, rng.randint(0, len(table)))
    return table, count


def _cell(rng: random.Random, value: Any, kind: pa.DataType) -> Any:
    if rng.random() < 0.15:
        return None
    if pa.types.is_list(kind):
        items = list(value or ())
        if not items or rng.random() < 0.2:
            return items[: rng.randint(0, len(items))] + [_cell(rng, None, kind.value_type)] * rng.randint(0, 2)
        at = rng.randrange(len(items))
        items[at] = _cell(rng, items[at], kind.value_type)
        return items
    if pa.types.is_struct(kind):
        made = dict(value or {})
        inner = kind.field(rng.randrange(kind.num_fields))
        return made | {inner.name: _cell(rng, made.get(inner.name), inner.type)}
    if pa.types.is_string(kind):
        return damaged_text(rng, value or "")
    if pa.types.is_integer(kind):
        most = 2 ** (kind.bit_width - 1) - 1
        least = -most if pa.types.is_signed_integer(kind) else 0
        return rng.choice((0, 1, max(-1, least), 3, 7, 100, most, least, (value or 0) + (0 if value == most else 1)))
    if pa.types.is_floating(kind):
        return rng.choice((0.0, -1.5, float("nan"), float("inf"), 3e38))
    return rng.choice((True, False)) if pa.types.is_boolean(kind) else value
