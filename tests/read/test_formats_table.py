"""CSV and TSV tables -> records: a word a row, a sentence a row, and columns told by names and cells."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from format_files import file_of, records_of
from object_files import entities
from settled import read, settled

from xner_ray.data.spans import Span, spans_to_tags
from xner_ray.errors import InputError, Reason
from xner_ray.read.record import Record, Stated
from xner_ray.recipe.columns import Columns

KAGGLE = (
    'Sentence #,Word,POS,Tag\nSentence: 1,Nora,NNP,B-per\n,Falk,NNP,I-per\n,"""",``,O\n'
    'Sentence: 2,",",IN,O\n,Oslo,NNP,B-geo\n'
)
SENTENCES = [  # words, spans
    (["Nora", "Falk", "moved", "to", "Oslo", "."], [Span(0, 2, "PER"), Span(4, 5, "LOC")]),
    (["«", "Привет", ",", "Анна", '"', "!"], [Span(3, 4, "PER")]),
    (["北京", "的", "张伟", "😀😀"], [Span(0, 1, "LOC"), Span(2, 3, "PER")]),
    (["it", "'s", "NaN", "null", "1,000", "O"], []),
    (["क्षि", "الأمم", "المتحدة"], [Span(1, 3, "ORG")]),
]


def _read(tmp_path: Path, content: str | bytes, columns: dict[str, Any] | None = None, **options: Any) -> list[Record]:
    return read(file_of(tmp_path, content, "table", columns=Columns(**columns or {}), **options))


def _said(tmp_path: Path, content: str) -> str:
    file = file_of(tmp_path, content, "table")
    (said,) = settled(file).said
    return said


def _written(rows: list[list[str]], **options: Any) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", **options).writerows(rows)
    return out.getvalue()


def test_kaggle_numbers_a_sentence_in_its_first_row_alone(tmp_path: Path) -> None:
    first, second = _read(tmp_path, KAGGLE)
    assert (first.line, first.id, first.tokens) == (2, "Sentence: 1", ["Nora", "Falk", '"'])
    assert first.spans == [Span(0, 2, "per")]
    assert (second.line, second.id, second.tokens, second.spans) == (
        5,
        "Sentence: 2",
        [",", "Oslo"],
        [Span(1, 2, "geo")],
    )
    assert _said(tmp_path, KAGGLE) == (
        "columns between commas, a word a row: tags in column 'Tag', tokens in column 'Word', sentence in column "
        "'Sentence #'"
    )


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("names", [["sentence_id", "token", "ner"], ["nr", "Form", "tag"], None])
@pytest.mark.parametrize("way", ["every", "first", "blank"])
def test_a_word_a_row_of_forty_sentences(tmp_path: Path, mark: str, names: list[str] | None, way: str) -> None:
    if way == "blank":
        names = names and names[1:]
    rows = [names] if names else []
    for number in range(40):
        words, spans = SENTENCES[number % 5]
        for index, (word, tag) in enumerate(zip(words, spans_to_tags(spans, len(words)), strict=True)):
            own = {"every": [str(number)], "first": [str(number) if not index else ""]}.get(way, [])
            rows.append([*own, word, tag])
        if way == "blank":
            rows.append([""] * len(rows[-1]) if number % 2 else [])
    records = _read(tmp_path, _written(rows, delimiter=mark))
    assert [(r.tokens, r.spans, r.reason) for r in records] == [(*SENTENCES[n % 5], None) for n in range(40)]
    if way in ("every", "first"):
        assert [r.id for r in records] == [str(number) for number in range(40)]


def test_tabs_without_quotes_hold_quotes_as_words(tmp_path: Path) -> None:
    rows = [f"{n}\t{word}\t{tag}" for n in range(5) for word, tag in (('"', "O"), ("Nora", "B-PER"), ("x", "O"))]
    records = _read(tmp_path, "\n".join(rows))
    assert [r.tokens for r in records] == [['"', "Nora", "x"]] * 5


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ("['Nora', \"it's\", 'home']", "['B-PER', 'O', 'O']"),
        ('["Nora", "it\'s", "home"]', '["B-PER", "O", "O"]'),
        ("['Nora' \"it's\" 'home']", "['B-PER' 'O' 'O']"),
        ("array(['Nora', \"it's\",\n 'home'], dtype=object)", "array(['B-PER', 'O', 'O'], dtype=object)"),
        ("Nora it's home", "B-PER O O"),
        ("Nora it's home", "['B-PER', 'O', 'O']"),
        ("['Nora', \"it's\", 'home']", "[1, 0, 0]"),
        ("['Nora', \"it's\", 'home']", "[1 0\n 0]"),
        ("Nora it's home", "1 0 0"),
        ("Nora it's home", "1,0,0"),
        ("Nora it's home", "B-PER,O,O"),
        ("Nora it's home", "B-PER; O; O"),
    ],
)
@pytest.mark.parametrize("names", [["text", "labels"], ["Sentence", "Tag"], ["tokens", "ner_tags"]])
def test_a_sentence_a_row_with_tags(tmp_path: Path, tokens: str, tags: str, names: list[str]) -> None:
    content = _written([names, *[[tokens, tags]] * 3])
    stated = Stated(names=("O", "B-PER") if "1" in tags else None)
    for record in _read(tmp_path, content, stated=stated):
        assert (record.tokens, record.spans) == (["Nora", "it's", "home"], [Span(0, 1, "PER")])


def test_kaggles_other_file_has_lists_of_parts_of_speech_too(tmp_path: Path) -> None:
    rows = [["Sentence #", "Sentence", "POS", "Tag"], ["Sentence: 1", "Nora went", "['NNP', 'VBD']", "['B-per', 'O']"]]
    (record,) = _read(tmp_path, _written(rows))
    assert (record.tokens, record.spans) == (["Nora", "went"], [Span(0, 1, "per")])


@pytest.mark.parametrize(
    "spans",
    [
        '[{"start": 0, "end": 4, "text": "Nora", "labels": ["PER"]}]',
        "[{'start': 0, 'end': 4, 'label': 'PER'}]",
        "[(0, 4, 'PER')]",
        '{"entities": [[0, 4, "PER"]]}',
    ],
)
def test_a_sentence_a_row_with_spans_and_line_ends_in_cells(tmp_path: Path, spans: str) -> None:
    rows = [["annotation_id", "id", "label", "text"], ["9", "d1", spans, "Nora, of\n\nOslo"], ["8", "d2", "[]", "x y"]]
    first, second = _read(tmp_path, "\ufeff" + _written(rows).replace("\n", "\r\n"))
    assert (first.id, first.text, first.chars) == ("d1", "Nora, of\r\n\r\nOslo", [(0, 4, "PER")])
    assert (second.line, second.id, second.chars) == (5, "d2", [])


def test_a_span_whose_text_is_another_is_no_span(tmp_path: Path) -> None:
    spans = [f'[{{"start": {at}, "end": {at + 4}, "text": "Nora", "labels": ["PER"]}}]' for at in (3, 3, 4)]
    rows = [["ab Nora went", spans[0]], ["a, Nora went", spans[1]], ["ab Nora went", spans[2]]]
    good, _, bad = _read(tmp_path, _written([["text", "label"], *rows]))
    assert (good.chars, good.reason) == ([(3, 7, "PER")], None)
    assert (bad.reason, bad.detail) == (
        Reason.BAD_SPAN,
        "span {'start': 4, 'end': 8, 'text': 'Nora', 'labels': ['PER']} is 'ora ' in the text, and its own text is "
        "'Nora'",
    )


_SPANS: dict[str, Any] = {
    "[start, end, label]": lambda s, e, t: [s, e, "PER"],
    "{start_offset, end_offset, label}": lambda s, e, t: {"id": 1, "label": "PER", "start_offset": s, "end_offset": e},
    "{start, end, labels}": lambda s, e, t: {"start": s, "end": e, "text": t, "labels": ["PER"]},
    "[start, end, label, text]": lambda s, e, t: [s, e, "PER", t],
}


@pytest.mark.parametrize("unit", ["characters", "utf16", "bytes"])
@pytest.mark.parametrize("shape", list(_SPANS))
@pytest.mark.parametrize("name", ["label", "entities", "spans", "anything"])
def test_spans_in_cells_are_read_as_those_of_objects(tmp_path: Path, unit: str, shape: str, name: str) -> None:
    size = {"characters": len, "utf16": lambda t: len(t.encode("utf-16-le")) // 2, "bytes": lambda t: len(t.encode())}
    count: Any = size[unit]
    rows = []
    for number in range(40):
        text = f"{'😀é' * (number % 3 + 1)} {'Nora Falk' if number % 2 else 'Ylva Öst'} said, {number} left."
        start = text.index("Nora Falk" if number % 2 else "Ylva Öst")
        end = text.index(" said")
        span = _SPANS[shape](count(text[:start]), count(text[:end]), text[start:end])
        rows.append([text, json.dumps([span], ensure_ascii=number % 2 == 0), f"n{number}"])
    file = file_of(tmp_path, _written([["body", name, "note"], *rows]), "table")
    records = read(file)
    assert [entities(record) for record in records] == [
        [("Nora Falk" if n % 2 else "Ylva Öst", "PER")] for n in range(40)
    ]
    assert [record.extra for record in records[:2]] == ['{"note": "n0"}', '{"note": "n1"}']
    offsets = {"characters": "", "utf16": "UTF-16", "bytes": "bytes"}[unit]
    assert any(offsets in line for line in settled(file).said)
    stated = settled(file_of(tmp_path, _written([["body", name, "note"], *rows]), "table", stated=Stated(offsets=unit)))
    assert stated.reading.offsets == unit


@pytest.mark.parametrize("names", [["sentence_id", "word", "tag"], ["sid", "token", "x"], None])
def test_a_word_a_row_with_numbers_that_the_recipe_names(tmp_path: Path, names: list[str] | None) -> None:
    words = [("Nora", 1), ("Falk", 2), ("saw", 0), ("5", 0), ("Oslo", 1), (".", 0)]
    rows = [[str(n), word, str(tag)] for n in range(9) for word, tag in words]
    content = _written([*([names] if names else []), *rows])
    records = _read(tmp_path, content, stated=Stated(names=("O", "B-PER", "I-PER")))
    assert [record.spans for record in records] == [[Span(0, 2, "PER"), Span(4, 5, "PER")]] * 9


@pytest.mark.parametrize(
    "rows",
    [
        [["Nora left", "B-PER O"], ["Oslo is big", "B-LOC O O"], ["Ada Falk", "B-PER I-PER"]],
        [["Nora left", "B-PER,O"], ["Oslo is big", "B-LOC,O,O"], ["Ada Falk", "B-PER,I-PER"]],
        [["Nora left", '[[0, 4, "PER"]]'], ["Oslo is", '[[0, 4, "LOC"]]'], ["Ada Falk", '[[0, 8, "PER"]]']],
        [['["Nora", "left"]', '["B-PER", "O"]'], ['["Oslo"]', '["B-LOC"]'], ['["Ada", "Falk"]', '["B-PER", "I-PER"]']],
        [["Nora left", "[]"], ["Oslo is", '[[0, 4, "LOC"]]'], ["Ada Falk", '[[0, 8, "PER"]]']],
    ],
)
@pytest.mark.parametrize("header", [None, ["one", "two"], ["text", "label"]])
def test_the_first_sentence_of_a_table_is_no_header(
    tmp_path: Path, rows: list[list[str]], header: list[str] | None
) -> None:
    records = _read(tmp_path, _written([*([header] if header else []), *rows * 5]))
    assert len(records) == 15
    found = [[("Nora", "PER")] if rows[0][1] != "[]" else [], [("Oslo", "LOC")], [("Ada Falk", "PER")]]
    assert [entities(record) for record in records] == found * 5


@pytest.mark.parametrize("header", [None, ["a", "b", "c"], ["sentence_id", "word", "label"]])
@pytest.mark.parametrize("labels", [("PERSON", "GPE"), ("person", "geo")])
def test_the_first_word_of_a_table_is_no_header(
    tmp_path: Path, header: list[str] | None, labels: tuple[str, str]
) -> None:
    words = [("Nora", labels[0]), ("Falk", labels[0]), ("saw", "O"), ("the", "O"), ("Oslo", labels[1])]
    rows = [[str(n), word, label] for n in range(9) for word, label in words]
    for record in _read(tmp_path, _written([*([header] if header else []), *rows])):
        assert record.tokens == [word for word, _ in words]
        assert record.spans == [Span(0, 2, labels[0]), Span(4, 5, labels[1])]


def test_empty_cells_of_a_label_studio_export_are_gold(tmp_path: Path) -> None:
    spans = json.dumps([{"start": 0, "end": 4, "text": "Nora", "labels": ["PER"]}])
    rows = [["annotation_id", "id", "label", "text"], ["4", "1", spans, "Nora left."], ["5", "2", "", "She left."]]
    assert [record.chars for record in _read(tmp_path, _written(rows))] == [[(0, 4, "PER")], []]
    rows = [row[1:] for row in rows]
    assert [record.chars for record in _read(tmp_path, _written(rows))] == [[(0, 4, "PER")], None]


def test_spans_of_words_in_cells(tmp_path: Path) -> None:
    rows = [[json.dumps(["😀", "Nora", "Falk", str(n)]), json.dumps([[1, 2, "PER"], [3, 3, "NUM"]])] for n in range(9)]
    for record in _read(tmp_path, _written([["tokens", "spans"], *rows])):
        assert record.spans == [Span(1, 3, "PER"), Span(3, 4, "NUM")]


@pytest.mark.parametrize("mark", ["\t", ","])
@pytest.mark.parametrize("apart", [1, 2, 7])
def test_quotes_that_are_words_swallow_no_line(tmp_path: Path, mark: str, apart: int) -> None:
    """Two words that are quotes, some lines apart, look like one cell with line ends."""
    words = ['"', *["w"] * apart, '"', "Nora", "."]
    for names in ([], [["sentence_id", "word", "tag"]]):
        rows = [*names, *([str(n), w, "B-PER" if w == "Nora" else "O"] for n in range(20) for w in words)]
        records = _read(tmp_path, "\n".join(mark.join(row) for row in rows))
        assert [record.tokens for record in records] == [words] * 20


@pytest.mark.parametrize("mark", ["\t", "|"])
@pytest.mark.parametrize("text", ['" We win , " said Nora .', '"Yes", Nora said.', '"Nora left', '"" Nora ""'])
def test_quotes_in_texts_that_are_not_quoted_stay_there(tmp_path: Path, mark: str, text: str) -> None:
    start = text.index("Nora")
    rows = [f"{text}{mark}[[{start}, {start + 4}, 'PER']]", f"Ada left{mark}[[0, 3, 'PER']]"] * 9
    found = _read(tmp_path, "\n".join([f"text{mark}label", *rows]))
    assert [(record.text, entities(record)) for record in found[:2]] == [
        (text, [("Nora", "PER")]),
        ("Ada left", [("Ada", "PER")]),
    ]


def test_a_quote_that_swallows_lines_of_a_damaged_file_is_said(tmp_path: Path) -> None:
    content = 'sentence_id,word,tag\n1,",O\n1,Nora,B-PER\n1,",O\n1,"5,000",O\n2,x,O\n'
    bad, good = _read(tmp_path, content)
    assert (bad.reason, bad.detail) == (
        Reason.MALFORMED,
        'line 2: a quote that opens here closes in another line; write quotes as """"',
    )
    assert good.tokens == ["x"]


def test_text_alone_and_columns_that_the_recipe_states(tmp_path: Path) -> None:
    assert [r.text for r in _read(tmp_path, "id,text\n1,Nora went\n2,x\n")] == ["Nora went", "x"]
    pairs = "1\tNora went\tNora gikk\n2\tOslo is\tOslo er\n"
    assert [r.text for r in _read(tmp_path, pairs, {"text": "3"})] == ["Nora gikk", "Oslo er"]
    levels = "s,word,outer,inner\n1,Oslo,B-ORG,B-LOC\n1,Times,I-ORG,O\n2,x,O,O\n2,y,O,O\n"
    for name, spans in (("outer", [Span(0, 2, "ORG")]), ("4", [Span(0, 1, "LOC")])):
        assert _read(tmp_path, levels, {"tags": name})[0].spans == spans


@pytest.mark.parametrize(
    ("content", "columns", "match"),
    [
        (
            "s,word,outer,inner\n1,Oslo,B-ORG,B-LOC\n1,Times,I-ORG,O\n2,x,O,O\n",
            {},
            r"columns 'outer', 'inner' all hold tags, and they differ; its columns: 1 \(s\), 2 \(word\).*"
            r"set input.columns.tags to a number or name, as in input.columns.tags: outer",
        ),
        ("Nora went\tNora gikk\nOslo is\tOslo er\n", {}, r"which column holds the sentences.*input.columns.text: 1"),
        ("word,tag\nNora,B-PER\nwent,O\nhome,O\n", {}, r"no column numbers the sentences.*input.columns.id"),
        (KAGGLE, {"tags": "Tags"}, r"has no column 'Tags' \(input.columns.tags\); columns: 1 \(Sentence #\)"),
        (KAGGLE, {"tokens": "9"}, "has no column '9'"),
        ("\n , \n", {}, "holds no sentence"),
        (KAGGLE.replace("Nora", "Ñora").replace("Falk", "Fälk").replace("Oslo", "Øslo").encode("latin1"), {}, "iconv"),
    ],
)
def test_what_cannot_be_told_is_refused_with_the_key(
    tmp_path: Path, content: str | bytes, columns: dict[str, str], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        _read(tmp_path, content, columns)


def test_a_file_that_is_too_large_is_refused_with_the_cure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xner_ray.read.formats.table.MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match=r"larger than 1 MiB.*several files, or write it as Parquet or JSONL"):
        _read(tmp_path, "text\n" + "x y z\n" * 200_000)


def test_damaged_rows_are_rows(tmp_path: Path) -> None:
    content = (KAGGLE + "Sentence: 3,x\n,y,NN,O\nSentence: 4,z,NN,O\n").encode().replace(b"Oslo", b"Osl\xf8")
    bad_bytes, short, good = _read(tmp_path, content)[1:]
    assert (bad_bytes.reason, bad_bytes.tokens) == (Reason.BAD_UTF8, [",", "Osl\ufffd"])
    assert "iconv" in bad_bytes.detail
    assert (short.line, short.reason, short.detail) == (
        7,
        Reason.MALFORMED,
        "line 7 has 2 columns, the table has 4",
    )
    assert (good.reason, good.tokens) == (None, ["z"])
    rows = [["text", "labels"], ["Nora went", "B-PER O"], ["Oslo is big", "B-LOC O"], ["a", "O", "more"]]
    good, uneven, wide = _read(tmp_path, _written(rows))
    assert (good.reason, uneven.reason, wide.reason) == (None, Reason.MALFORMED, Reason.MALFORMED)
    assert "3 tokens but 2" in uneven.detail
    assert "line 4 has 3 columns, the table has 2" in wide.detail


def test_a_table_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(tmp_path, KAGGLE, "table", stamp="1-1")
    before = records_of(file)
    before[0].tokens.append("changed")
    monkeypatch.setattr("xner_ray.read.table.layout.parsed", lambda text, where: 1 / 0)
    assert [r.tokens for r in records_of(file)] == [["Nora", "Falk", '"'], [",", "Oslo"]]


@pytest.mark.parametrize(
    ("spelt", "scheme"),
    [
        (["PERSON", "PERSON", "O", "GPE"], "io"),
        (["B_PERSON", "I_PERSON", "O", "B_GPE"], "iob2"),
        (["PERSON-B", "PERSON-I", "O", "GPE-B"], "iob2"),
        (["B-PERSON", "E-PERSON", "O", "S-GPE"], None),
    ],
)
@pytest.mark.parametrize("way", ["words", "blanks", "list"])
def test_other_spellings_of_tags_are_found_out(tmp_path: Path, spelt: list[str], scheme: str | None, way: str) -> None:
    words = ["Nora", "Falk", "saw", "Oslo"]
    rows = [["sentence_id", "word", "tag"]] if way == "words" else [["text", "labels"]]
    for number in range(10):
        tags = spelt if number % 2 else ["O"] * 4
        if way == "words":
            rows += [[str(number), word, tag] for word, tag in zip(words, tags, strict=True)]
        else:
            rows.append([" ".join(words), " ".join(tags) if way == "blanks" else repr(tags)])
    file = file_of(tmp_path, _written(rows), "table")
    records = read(file)
    assert [r.reason for r in records] == [None] * 10
    assert records[1].spans == [Span(0, 2, "PERSON"), Span(3, 4, "GPE")]
    assert ("scheme" in settled(file).said[-1]) == (scheme is not None)
    stated = Stated(scheme="bmes" if scheme == "io" else "io")
    with pytest.raises(InputError, match=rf"input.scheme is {stated.scheme}, but .* leave input.scheme out"):
        settled(file_of(tmp_path, _written(rows), "table", stated=stated))


def test_a_scheme_is_refused_where_there_are_no_tags(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input.scheme is bmes, but no column holds tags"):
        settled(file_of(tmp_path, "text\nNora went\n", "table", stated=Stated(scheme="bmes")))
