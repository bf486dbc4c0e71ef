"""Documents cut into sentences with their labels: nothing lost, and every span where it was."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reading import read_all, to_test, to_train, write

from xner_ray.data import words
from xner_ray.data.spans import Span
from xner_ray.errors import Flag, InputError, Reason
from xner_ray.read.index.build import build_index
from xner_ray.read.record import File, Record
from xner_ray.read.records import cut

FILE = File("a.jsonl", "a.jsonl", "jsonl", "eng_Latn", sentences=True)
SENTENCE = st.sampled_from(
    [
        "Nora went to Oslo.", "Mr. Falk is ill!", "😀 Ada?", "东京很大。", "वह दिल्ली गया।", "\n", "  ", "No end",
        "\u00a0Bo (b. 1990) ran.", "„Ja.“", "e\u0301. ", "سافر إلى عمّان؟", "", "\ufeff",
    ]
)  # fmt: skip


@st.composite
def _document(draw: st.DrawFn) -> tuple[str, list[tuple[int, int, str]]]:
    parts = draw(st.lists(SENTENCE | st.text(max_size=6), min_size=1, max_size=8))
    text = draw(st.sampled_from([" ", "  ", "\n", "\n\n", ""])).join(parts)
    spans = []
    for _ in range(draw(st.integers(0, 5)) if text else 0):
        start = draw(st.integers(0, len(text) - 1))
        length = draw(st.integers(1, 8) | st.integers(1, len(text)))
        spans.append((start, min(len(text), start + length), draw(st.sampled_from(["PER", "LOC"]))))
    return text, spans


def _bare(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


@settings(max_examples=400)
@given(_document())
@example(("A b.  C d.", [(4, 6, "PER")]))
@example((" A. ", [(0, 1, "PER")]))
def test_every_span_is_where_it_was_in_the_document(document: tuple[str, list[tuple[int, int, str]]]) -> None:
    text, spans = document
    found = cut(Record(3, id="d", text=text, chars=list(spans)), FILE)
    assert [(one.id, one.doc_id, one.line) for one in found] == [(f"d#{n}", "d", 3) for n in range(len(found))]
    covered: list[int] = []
    moved = []
    for one in found:
        assert one.text is not None and one.start is not None and one.chars is not None
        assert text[one.start : one.start + len(one.text)] == one.text
        covered += range(one.start, one.start + len(one.text))
        for start, end, label in one.chars:
            assert 0 <= start < end <= len(one.text)
            if one.text[start:end].strip():
                moved.append((*_bare(text, one.start + start, one.start + end), label))
            else:
                moved.append((one.start + start, one.start + start, label))
    assert covered == sorted(set(covered))
    assert {index for index, one in enumerate(text) if not one.isspace()} <= set(covered)
    wanted = [(*_bare(text, start, end), label) for start, end, label in spans if text[start:end].strip()]
    blank = [(start, start, label) for start, end, label in spans if not text[start:end].strip()]
    assert sorted(moved) == sorted(wanted + blank)
    plain = cut(Record(3, id="d", text=text), FILE)
    if not any(one.joined for one in found) and not blank:
        assert [(one.text, one.start) for one in plain] == [(one.text, one.start) for one in found]
    else:
        assert len(found) <= len(plain) + len(blank)


@settings(max_examples=300)
@given(_document(), st.booleans(), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=5))
def test_documents_of_tokens(document: tuple[str, Any], own_text: bool, raw: list[tuple[int, int]]) -> None:
    text, _ = document
    tokens = [text[start:end] for start, end in words.split(text, "eng_Latn")]
    tokens = [part for token in tokens for part in ([token, "\n"] if token == "." else [token])]
    spans = [Span(start, min(len(tokens), start + size), "PER") for start, size in raw if start < len(tokens)]
    given_text = text if own_text else None
    found = cut(Record(0, text=given_text, tokens=list(tokens), spans=list(spans), repaired=2), FILE)
    assert sum(one.repaired for one in found) == 2
    moved, covered = [], []
    for one in found:
        assert one.tokens is not None and one.start is not None and one.spans is not None
        assert tokens[one.start : one.start + len(one.tokens)] == one.tokens
        covered += range(one.start, one.start + len(one.tokens))
        moved += [Span(one.start + span.start, one.start + span.end, span.label) for span in one.spans]
        assert all(0 <= span.start < span.end <= len(one.tokens) for span in one.spans)
    assert covered == sorted(set(covered))
    assert {index for index, token in enumerate(tokens) if token.strip()} <= set(covered)
    assert sorted(moved) == sorted(spans)


def _rows(path: Path, **given: Any) -> list[dict[str, Any]]:
    return read_all(to_train(path, input={"split": "sentences", **given})).to_pylist()


DOCUMENT = "Nora Falk moved.  She lives in Oslo 😀.\n\nAda met Bo. The Worth Inc. Is big."


def _span(text: str, part: str, label: str) -> dict[str, Any]:
    start = text.index(part)
    return {"start": start, "end": start + len(part), "label": label}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
@pytest.mark.parametrize("unit_rows", [1, 2048])
def test_a_labelled_document_becomes_labelled_sentences(tmp_path: Path, form: str, unit_rows: int) -> None:
    parts = [("Nora Falk", "PER"), ("Oslo", "LOC"), ("Ada", "PER"), ("Bo", "PER"), ("Worth Inc. Is", "ORG")]
    rows = [
        {"id": "one", "text": DOCUMENT, "spans": [_span(DOCUMENT, *part) for part in parts], "n": 7},
        {"id": "two", "text": "Nobody. Nothing.", "spans": [], "n": 8},
        {"id": "three", "text": "Al. Bo.", "spans": [{"start": 0, "end": 99, "label": "PER"}], "n": 9},
    ]
    if form == "jsonl":
        path = write(tmp_path / "a.jsonl", *rows)
    else:
        path = tmp_path / "a.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path)
    table = read_all(to_train(path, input={"split": "sentences"}, unit_rows=unit_rows))
    found = table.to_pylist()
    shown = [
        (row["id"], row["doc_id"], row["source_text"], [row["source_text"][o["start"] : o["end"]] for o in _ends(row)])
        for row in found
    ]
    assert shown == [
        ("one#0", "one", "Nora Falk moved.", ["Nora Falk"]),
        ("one#1", "one", "She lives in Oslo 😀.", ["Oslo"]),
        ("one#2", "one", "Ada met Bo.", ["Ada", "Bo"]),
        ("one#3", "one", "The Worth Inc. Is big.", ["Worth Inc. Is"]),
        ("two#0", "two", "Nobody.", []),
        ("two#1", "two", "Nothing.", []),
        ("three", None, "Al. Bo.", []),
    ]
    for row in found[:-1]:
        text = DOCUMENT if row["doc_id"] == "one" else "Nobody. Nothing."
        assert text[row["document_start"] :].startswith(row["source_text"])
    assert (found[-1]["document_start"], found[-1]["reason"]) == (None, Reason.BAD_SPAN)
    assert [row["flags"] for row in found] == [[], [], [], [Flag.SENTENCES_JOINED], [], [], []]
    assert table.schema.names[-2:] == ["document_start", "extra" if form == "jsonl" else "n"]
    assert [row.get("n", json.loads(row.get("extra", "{}") or "{}").get("n")) for row in found] == [7] * 4 + [8] * 2 + [
        9
    ]


def _ends(row: dict[str, Any]) -> list[dict[str, int]]:
    places = row["source_offsets"] or []
    spans = row["source_spans"] or []
    return [{"start": places[span["start"]]["start"], "end": places[span["end"] - 1]["end"]} for span in spans]


def test_tokens_with_tags_are_cut_too(tmp_path: Path) -> None:
    tokens = ["Al", "ran", ".", "\n", "Bo", "met", "Yahoo", "!", "Inc", "."]
    tags = ["B-PER", "O", "O", "O", "B-PER", "O", "B-ORG", "I-ORG", "I-ORG", "O"]
    path = write(tmp_path / "a.jsonl", {"id": "d", "tokens": tokens, "ner_tags": tags})
    first, second = _rows(path)
    assert (first["source_tokens"], first["document_start"], first["flags"]) == (["Al", "ran", "."], 0, [])
    assert (second["source_tokens"], second["document_start"]) == (tokens[4:], 4)
    assert [(s["start"], s["end"]) for s in second["source_spans"]] == [(0, 1), (2, 5)]
    assert second["flags"] == [Flag.SENTENCES_JOINED]


def test_sentences_that_are_joined_may_be_too_long_and_blank_spans_are_named(tmp_path: Path) -> None:
    text = "One two three. Four five six. "
    row = {"id": "d", "text": text, "spans": [[8, 19, "PER"]]}
    path = write(tmp_path / "a.jsonl", row, {"id": "e", "text": text, "spans": [[14, 15, "LOC"], [0, 3, "PER"]]})
    long, first, second = _rows(path, max_words=5)
    assert (long["id"], long["reason"], long["flags"]) == ("d#0", Reason.TOO_LONG, [Flag.SENTENCES_JOINED])
    assert (first["id"], first["reason"], second["id"], second["reason"]) == ("e#0", Reason.BAD_SPAN, "e#1", None)
    assert "covers white space and no word" in first["detail"]
    kept = _rows(path, labels={"keep": ["PER"]})
    assert [(one["id"], one["reason"]) for one in kept] == [("d#0", None), ("e#0", None), ("e#1", None)]


def test_a_column_of_that_name_is_refused(tmp_path: Path) -> None:
    table = pa.table({"text": ["A b. C d."], "document_start": [1]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(InputError, match=r"adds the column 'document_start', which the file has already"):
        build_index(to_test(tmp_path / "a.parquet", input={"split": "sentences"}))
    assert read_all(to_test(tmp_path / "a.parquet")).column("document_start").to_pylist() == [1]


@pytest.mark.parametrize("address", ["https://x.org/a?b=1", "x.org/?q", "a!b@x.org", "v1.2?3", "x.org/a.b?c_d=5%20"])
def test_no_sentence_ends_inside_an_address(tmp_path: Path, address: str) -> None:
    text = f"Nora saw {address} and left. Ada stayed! Did she? Yes."
    path = write(tmp_path / "a.jsonl", {"text": text, "spans": [[0, 4, "PER"]]})
    rows = read_all(to_train(path, input={"split": "sentences"})).to_pylist()
    assert [row["source_text"] for row in rows] == [f"Nora saw {address} and left.", "Ada stayed!", "Did she?", "Yes."]


PAPER = ["Nora saw left and right lungs.", "Ada went home.", "In New\nYork, Bo stayed.", "Mia left."]


def _papers(folder: Path, kind: str) -> Path:
    """Write a document with an entity in two parts in its first sentence, and one over a line end in its third."""
    text = " ".join(PAPER)

    def at(*names: str) -> list[list[int]]:
        return [[text.index(name), text.index(name) + len(name)] for name in names]

    found = [(at("Nora"), "PER"), (at("left", "lungs"), "BODY"), (at("Ada"), "PER"), (at("New", "York"), "LOC")]
    if kind == "brat":
        lines = [
            f"T{n}\t{label} {';'.join(f'{a} {b}' for a, b in places)}\t{' '.join(text[a:b] for a, b in places)}\n"
            for n, (places, label) in enumerate(found, start=1)
        ]
        (folder / "d.txt").write_text(text)
        (folder / "d.ann").write_text("".join(lines))
        return folder
    spans = [
        {"id": str(n), "type": label, "text": [text[a:b] for a, b in places], "offsets": places, "normalized": []}
        for n, (places, label) in enumerate(found)
    ]
    passages = [{"id": "p", "type": "t", "text": [text], "offsets": [[0, len(text)]]}]
    row = {"id": "1", "document_id": "d", "passages": passages, "entities": spans}
    return write(folder / "d.jsonl", row)


@pytest.mark.parametrize("kind", ["brat", "bigbio"])
def test_an_entity_that_no_row_can_hold_costs_its_sentence_alone(tmp_path: Path, kind: str) -> None:
    path = _papers(tmp_path, kind)
    rows = read_all(to_train(path, input={"split": "sentences"})).to_pylist()
    assert [row["reason"] for row in rows] == [Reason.BAD_SPAN, None, None, None]
    assert "is discontinuous, as no row can hold it" in rows[0]["detail"]
    names = [
        [(" ".join(row["source_tokens"][one["start"] : one["end"]]), one["label"]) for one in row["source_spans"] or ()]
        for row in rows
    ]
    assert names == [[], [("Ada", "PER")], [("New York", "LOC")], []]
    with pytest.raises(InputError, match=r"1 of 1 rows will be rejected: bad_span; the first: .*is discontinuous"):
        build_index(to_train(path))
