"""What the numbers of spans count, found out from their own texts and from word edges; and what is refused."""

from pathlib import Path
from typing import Any

import pytest
from object_files import entities, lines_of, read, settled

from xner_ray.errors import InputError
from xner_ray.read.shapes.offsets import Counts

SENTENCES = [
    ("😀😀 Nora went to Oslo with Ada.", [("Nora", "PER"), ("Oslo", "LOC"), ("Ada", "PER")]),
    ("Zoë 👨‍👩‍👧 flew to Łódź.", [("Zoë", "PER"), ("Łódź", "LOC")]),
    ("e\u0301a in Que\u0301bec, 🇳🇴 Bergen", [("Que\u0301bec", "LOC"), ("Bergen", "LOC")]),
    ("Жанна\r\nв Києві 🙂 з Олегом", [("Жанна", "PER"), ("Києві", "LOC"), ("Олегом", "PER")]),
    ("नई दिल्ली में 😀 मोहन रहते हैं", [("नई दिल्ली", "LOC"), ("मोहन", "PER")]),
    ("Plain Ada lives in Rome.", [("Ada", "PER"), ("Rome", "LOC")]),
]


def _length(text: str, unit: str) -> int:
    from icu4py.breakers import CharacterBreaker

    sizes = {
        "characters": len(text),
        "utf16": len(text.encode("utf-16-le")) // 2,
        "bytes": len(text.encode()),
        "graphemes": len(list(CharacterBreaker(text, "en"))),
    }
    return sizes[unit]


def _rows(unit: str, more: int = 0, *, own: bool = False) -> list[dict[str, Any]]:
    """Return the sentences with offsets in a unit; more: added to each end."""
    rows = []
    for text, found in SENTENCES:
        spans = []
        for name, label in found:
            at = text.index(name)
            span = {
                "start": _length(text[:at], unit),
                "end": _length(text[: at + len(name)], unit) + more,
                "label": label,
            }
            spans.append(span | ({"text": name} if own else {}))
        rows.append({"text": text, "spans": spans})
    return rows


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("more", [0, -1])
@pytest.mark.parametrize("unit", ["characters", "utf16", "bytes", "graphemes"])
def test_units_and_ends_are_found_out(tmp_path: Path, unit: str, more: int, own: bool) -> None:
    file = lines_of(tmp_path, *_rows(unit, more, own=own))
    records, said = read(file)
    assert [entities(record) for record in records] == [found for _, found in SENTENCES]
    reading = settled(file).reading
    assert (reading.offsets, reading.ends) == (unit, "inclusive" if more else "exclusive")
    assert bool(said) == (unit != "characters" or more != 0)


def test_a_span_that_its_own_text_contradicts_rejects_its_row(tmp_path: Path) -> None:
    rows = _rows("utf16", own=True)
    rows[0]["spans"][1]["text"] = "Bergen"
    first, *others = read(lines_of(tmp_path, *rows))[0]
    assert first.reason == "bad_span"
    assert "is 'Oslo' in the text, and its own text is 'Bergen'" in first.detail
    assert not any(record.reason for record in others)


def test_own_texts_that_fit_nowhere_are_refused(tmp_path: Path) -> None:
    rows = [{"text": "Nora left Oslo.", "spans": [{"start": 0, "end": 4, "label": "PER", "text": "Ada"}]}] * 3
    with pytest.raises(InputError, match=r"fit under no reading.*at most 0 of 3.*is 'Nora'.*set input\.offsets"):
        read(lines_of(tmp_path, *rows))
    records, _ = read(lines_of(tmp_path, *rows, offsets="characters"))
    assert {record.reason for record in records} == {"bad_span"}


def test_most_spans_off_the_edges_are_refused(tmp_path: Path) -> None:
    rows = [{"text": "Nora went to Oslo.", "spans": [[1, 5, "PER"], [14, 18, "LOC"]]}] * 3
    with pytest.raises(InputError, match=r"6 of 6 spans do not begin and end with words.*\[1, 5, 'PER'\] is 'ora '"):
        read(lines_of(tmp_path, *rows))
    records, _ = read(lines_of(tmp_path, *rows, offsets="characters"))
    assert entities(records[0]) == [("ora ", "PER"), ("slo.", "LOC")]


def test_two_units_that_fit_are_refused(tmp_path: Path) -> None:
    row = {"text": "😀😀 a b c", "spans": [[5, 6, "X"]]}
    with pytest.raises(InputError, match=r"characters and in UTF-16 units both fit.*set input.offsets: characters, or"):
        read(lines_of(tmp_path, row))
    (record,), _ = read(lines_of(tmp_path, row, offsets="utf16"))
    assert entities(record) == [("a", "X")]
    (record,), _ = read(lines_of(tmp_path, row, offsets="characters"))
    assert entities(record) == [("b", "X")]


def test_a_stated_unit_that_own_texts_contradict_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input\.offsets or input\.ends fit .* of .* spans.*offsets: utf16 with ends"):
        read(lines_of(tmp_path, *_rows("utf16", own=True)[:1] * 3, offsets="bytes"))


TOKENS = ["Nora", "Falk", "went", "to", "Oslo"]


@pytest.mark.parametrize(
    ("row", "options", "ends"),
    [
        ({"tokens": TOKENS, "spans": [[0, 2, "PER"], [4, 5, "LOC"]]}, {}, "exclusive"),
        ({"tokens": TOKENS, "spans": [[0, 1, "PER"], [4, 4, "LOC"]]}, {}, "inclusive"),
        ({"tokenized_text": TOKENS, "ner": [[0, 1, "PER"], [4, 4, "LOC"]]}, {}, "inclusive"),
        ({"text": " ".join(TOKENS), "tokens": TOKENS, "ner": [[0, 2, "PER"], [4, 5, "LOC"]]}, {}, "exclusive"),
        ({"text": " ".join(TOKENS), "ner": [[0, 2, "PER"], [4, 5, "LOC"]]}, {"offsets": "tokens"}, "exclusive"),
        ({"tokens": [*TOKENS, "."], "entities": [[0, 2, "PER", "Nora Falk"], [4, 5, "LOC", "Oslo"]]}, {}, "exclusive"),
        ({"tokens": [*TOKENS, "."], "spans": [[0, 1, "PER"], [4, 4, "LOC"]]}, {"ends": "inclusive"}, "inclusive"),
    ],
)
def test_token_numbers(tmp_path: Path, row: dict[str, Any], options: dict[str, Any], ends: str) -> None:
    file = lines_of(tmp_path, row, **options)
    (record,), _ = read(file)
    assert entities(record) == [("Nora Falk", "PER"), ("Oslo", "LOC")]
    assert (settled(file).reading.offsets, settled(file).reading.ends) == ("tokens", ends)


def test_token_numbers_whose_ends_are_open_are_refused(tmp_path: Path) -> None:
    row = {"tokens": [*TOKENS, "."], "spans": [[0, 2, "PER"]]}
    with pytest.raises(InputError, match=r"whether their ends are inclusive.*set input\.ends: inclusive, or"):
        read(lines_of(tmp_path, row))
    row = {"tokens": [*TOKENS, "."], "spans": [[0, 2, "PER"], [2, 3, "X"]]}  # neighbours, else they shared a token
    assert settled(lines_of(tmp_path, row)).reading.ends == "exclusive"


def test_a_position_inside_a_character_is_none() -> None:
    counts = Counts("a😀é", "utf16")
    assert [counts.at(position) for position in range(-1, 6)] == [-1, 0, 1, -1, 2, 3, -1]
    assert [Counts("aé", "bytes").at(position) for position in range(4)] == [0, 1, -1, 2]
    assert [Counts("a\r\nb", "graphemes").at(position) for position in range(5)] == [0, 1, 3, 4, -1]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_spans_off_the_edges_of_words_are_named(tmp_path: Path, count: int) -> None:
    rows = [{"text": "Nora went to Oslo", "spans": [[1, 6, "PER"]]}] * count
    records, said = read(lines_of(tmp_path, *rows))
    assert [record.reason for record in records] == [None] * count
    assert said[-1] == (
        f"{count} of {count} spans do not begin and end with words, which is too few to refuse them: "
        "[1, 6, 'PER'] is 'ora w'"
    )
    _, said = read(lines_of(tmp_path, *rows, offsets="characters"))
    assert said == []
