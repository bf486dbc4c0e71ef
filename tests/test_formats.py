"""One file of any format -> records: what each format means, and that reading can start again at every place."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray.errors import InputError, Reason
from xner_ray.read.formats import find_files, guess, iterate, read_records
from xner_ray.read.records import File, Place, Record, char_span, cut, split_of_file
from xner_ray.recipe import Columns
from xner_ray.spans import Span, spans_to_tags


def _file(tmp_path: Path, content: str | bytes, format: str, name: str = "a.x", **options) -> File:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return File(str(path), name, format, options.pop("lang", "eng_Latn"), **options)


def _records(file: File) -> list[Record]:
    return [record for _, record in read_records(file)]


def _conll(tmp_path: Path, content: str | bytes, **options) -> list[Record]:
    return _records(_file(tmp_path, content, "conll", **options))


# CoNLL


def test_conll_last_column_is_the_tag_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    first, second = _conll(tmp_path, "\n\nJohn NNP B-PER\nsleeps VBZ O\n\n \t\n\nHere\tRB\tO\n")
    assert (first.tokens, first.spans, first.line) == (["John", "sleeps"], [Span(0, 1, "PER")], 3)
    assert (second.tokens, second.spans, second.line) == (["Here"], [], 8)


def test_conll_without_a_last_newline_with_crlf_and_bom(tmp_path: Path) -> None:
    plain = _conll(tmp_path, "A\tB-PER\nb\tO\n\nC\tO\n")
    for other in (
        b"A\tB-PER\nb\tO\n\nC\tO",
        b"\xef\xbb\xbfA\tB-PER\r\nb\tO\r\n\r\nC\tO\r\n",
        b"A\tB-PER\nb\tO\n\nC\tO\r",
    ):
        assert _conll(tmp_path, other) == plain


@pytest.mark.parametrize(
    ("tags", "spans", "repaired"),
    [
        (["I-PER", "I-PER", "B-PER"], [Span(0, 2, "PER"), Span(2, 3, "PER")], 1),
        (["B-PER", "E-PER", "S-LOC"], [Span(0, 2, "PER"), Span(2, 3, "LOC")], 0),
        (["B-PER", "L-PER", "U-LOC"], [Span(0, 2, "PER"), Span(2, 3, "LOC")], 0),
    ],
)
def test_conll_notations(tmp_path: Path, tags: list[str], spans: list[Span], repaired: int) -> None:
    (record,) = _conll(tmp_path, "".join(f"w {tag}\n" for tag in tags))
    assert (record.spans, record.repaired) == (spans, repaired)


def test_conll_one_column_is_unlabelled(tmp_path: Path) -> None:
    (record,) = _conll(tmp_path, "a\nb\n")
    assert (record.tokens, record.spans, record.labelled) == (["a", "b"], None, False)


def test_conll_docstart(tmp_path: Path) -> None:
    records = _conll(
        tmp_path,
        "x O\n\n-DOCSTART- -X- -X- O\n\na O\n\nb O\n\n"
        "-DOCSTART- (17 EU)\nc O\n\n-DOCSTART-\tid9\n\nd O\n-DOCSTART-\ne O\n",
        name="news.conll",
    )
    assert [(r.tokens, r.doc_id) for r in records] == [
        (["x"], None),
        (["a"], "news-1"),
        (["b"], "news-1"),
        (["c"], "17 EU"),
        (["d"], "id9"),
        (["e"], "news-2"),
    ]


def test_conll_comments(tmp_path: Path) -> None:
    text = "# made by us in 2024\n#\n# id = s1\n# doc_id = d1\n# text = John sleeps.\nJohn O\nsleeps O\n. O\n\n"
    text += "# newdoc id = d2\nb O\n"
    first, second = _conll(tmp_path, text)
    assert (first.id, first.doc_id, first.text, first.tokens) == ("s1", "d1", "John sleeps.", ["John", "sleeps", "."])
    assert first.line == 6
    assert (second.id, second.doc_id) == (None, "d2")


@pytest.mark.parametrize(
    ("line", "token"),
    [("#\tO", "#"), ("# O", "#"), ("# NN B-MISC", "#"), ("#tag O", "#tag"), ("#tag = O", "#tag"), ("# = O", "#")],
)
def test_conll_a_hash_is_a_word_where_it_has_a_tag(tmp_path: Path, line: str, token: str) -> None:
    (record,) = _conll(tmp_path, f"{line}\n")
    assert (record.tokens, record.reason) == ([token], None)


def test_conll_a_hash_after_the_first_word_is_never_a_comment(tmp_path: Path) -> None:
    (record,) = _conll(tmp_path, "a\tO\n#\tO\n#1\tO\n")
    assert record.tokens == ["a", "#", "#1"]
    (record,) = _conll(tmp_path, "a O\n# id = x\n")
    assert record.reason is Reason.MALFORMED


def test_conll_comments_alone_announce_a_sentence_only_with_id_or_text(tmp_path: Path) -> None:
    records = _conll(tmp_path, "# global.columns = x\n\n# id = e\n\na O\n")
    assert [(r.id, r.tokens) for r in records] == [("e", []), (None, ["a"])]


def test_conll_malformed_and_illegal(tmp_path: Path) -> None:
    records = _conll(tmp_path, "a O\nb\n\nNew York B-LOC\nis O\n\na O\nb X-PER\n\nc O\n\nd\tO\te\n")
    assert [r.reason for r in records] == [
        Reason.MALFORMED,
        Reason.MALFORMED,
        Reason.ILLEGAL_TAG,
        None,
        Reason.ILLEGAL_TAG,
    ]
    assert "line 2 has 1 column" in records[0].detail
    assert "line 8" in records[2].detail
    assert "'X-PER'" in records[2].detail


def test_conll_bad_utf8_is_one_row(tmp_path: Path) -> None:
    records = _conll(tmp_path, b"a O\n\nb\xff O\n\nc O\n")
    assert [r.reason for r in records] == [None, Reason.BAD_UTF8, None]
    assert records[1].tokens == ["b\ufffd"]


def test_conll_words_split_at_ascii_blanks_and_lines_at_newlines_only(tmp_path: Path) -> None:
    (record,) = _conll(tmp_path, "a\u2028b O\n\u200b O\nx\x85y O\n")
    assert record.tokens == ["a\u2028b", "\u200b", "x\x85y"]


def test_utf16_and_broken_gzip_are_errors_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="UTF-16"):
        _conll(tmp_path, "a O\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"b\.conll\.gz: cannot be read"):
        _conll(tmp_path, b"no gzip", name="b.conll.gz")


def test_gzip(tmp_path: Path) -> None:
    file = _file(tmp_path, gzip.compress(b"a O\n\nb O\n"), "conll", "c.conll.gz")
    assert [record.tokens for record in _records(file)] == [["a"], ["b"]]
    assert {place for place, _ in read_records(file)} == {None}


# line ends


@pytest.mark.parametrize(
    ("format", "line"), [("conll", "a O\r\r"), ("uner", "1\ta\tO\r\r"), ("text", "a\r"), ("jsonl", "{}\r")]
)
def test_a_file_whose_lines_end_with_cr_alone_is_refused(tmp_path: Path, format: str, line: str) -> None:
    with pytest.raises(InputError, match=r"a\.x: carriage returns.*must end with LF or CRLF"):
        _records(_file(tmp_path, line * 3, format))


@pytest.mark.parametrize(
    "block",
    ["a O\rb O\n", "# made by us\ra O\n", "-DOCSTART- O\r\ra O\n", "a O\n# id = x\rb O\n", "# text = a\ra O\nb O\n"],
)
def test_conll_a_cr_inside_a_line_is_a_malformed_row(tmp_path: Path, block: str) -> None:
    first, bad, last = _conll(tmp_path, f"x O\n\n{block}\ny O\n")
    assert (first.tokens, last.tokens) == (["x"], ["y"])
    assert (bad.reason, bad.text, bad.tokens) == (Reason.MALFORMED, block.rstrip("\n"), None)
    assert bad.line == 3 + block[: block.index("\r")].count("\n")
    assert "LF or CRLF" in bad.detail


def test_text_a_cr_inside_a_line_is_a_malformed_row_and_one_before_crlf_is_not(tmp_path: Path) -> None:
    for sentences in (False, True):
        records = _records(_file(tmp_path, "a\rb\nc\r\r\nd\r", "text", sentences=sentences))
        assert [(r.text, r.reason) for r in records] == [("a\rb", Reason.MALFORMED), ("c", None), ("d", None)]
    assert [r.tokens for r in _conll(tmp_path, "a O\r\r\n\r\nb O\r\r\n")] == [["a"], ["b"]]


# UNER

_UNER = """# newdoc id = n1
# sent_id = s1
# text = Vamos da 5 000 casa
1\tVamos\tO\t-\t-
2-3\tda\t_\t-\t-
2\tde\tO\t-\t-
3\ta\tB-LOC\t-\tx
3.1\tnada\tO\t-\t-
4\t5 000\tI-LOC\t-\tx
5\tcasa\tO\t-\t-

# sent_id = s2
# text = # is a word
1\t#\tO
"""


def test_uner(tmp_path: Path) -> None:
    first, second = _records(_file(tmp_path, _UNER, "uner"))
    assert first.tokens == ["Vamos", "de", "a", "5", "000", "casa"]
    assert (first.spans, first.id, first.doc_id) == ([Span(2, 5, "LOC")], "s1", "n1")
    assert first.text == "Vamos da 5 000 casa"
    assert (second.tokens, second.id, second.doc_id) == (["#"], "s2", "n1")
    (bad,) = _records(_file(tmp_path, "1\ta\tO\nx\tb\tO\n", "uner"))
    assert bad.reason is Reason.MALFORMED
    assert "line 2" in bad.detail


# JSONL


def _jsonl(tmp_path: Path, *rows: object, columns: Columns | None = None) -> list[Record]:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    return _records(_file(tmp_path, "\n".join(lines), "jsonl", columns=columns or Columns()))


def test_jsonl_tokens_and_tags(tmp_path: Path) -> None:
    (record,) = _jsonl(tmp_path, {"id": 7, "tokens": ["A", "b"], "ner_tags": ["B-PER", "O"], "z": [1], "a": "é"})
    assert (record.id, record.tokens, record.spans) == ("7", ["A", "b"], [Span(0, 1, "PER")])
    assert record.extra == '{"a": "é", "z": [1]}'


@pytest.mark.parametrize(
    "span",
    [{"start": 0, "end": 2, "label": "PER"}, [0, 2, "PER"], {"start": 0, "end": 2, "labels": ["PER"], "text": "Al"}],
)
def test_jsonl_character_spans(tmp_path: Path, span: object) -> None:
    (record,) = _jsonl(tmp_path, {"text": "Al x", "spans": [span]})
    assert record.chars == [(0, 2, "PER")]


def test_jsonl_other_names_of_columns(tmp_path: Path) -> None:
    columns = Columns(text="data", spans="label", id="nr")
    (record,) = _jsonl(
        tmp_path, {"nr": "x", "data": "Al x", "label": [[0, 2, "PER"]], "text": "other"}, columns=columns
    )
    assert (record.id, record.text, record.chars, record.extra) == ("x", "Al x", [(0, 2, "PER")], '{"text": "other"}')


def test_jsonl_prodigy_tokens(tmp_path: Path) -> None:
    tokens = [{"text": "Al", "start": 0, "end": 2, "id": 0}, {"text": "x", "start": 3, "end": 4, "id": 1}]
    (record,) = _jsonl(tmp_path, {"text": "Al x", "tokens": tokens, "spans": [{"start": 0, "end": 2, "label": "PER"}]})
    assert (record.tokens, record.chars) == (["Al", "x"], [(0, 2, "PER")])


@pytest.mark.parametrize(
    ("row", "reason", "words"),
    [
        ("{", Reason.MALFORMED, "no JSON"),
        ("[" * 100_000, Reason.MALFORMED, "no JSON"),
        ("[1]", Reason.MALFORMED, "object"),
        ('{"text": "a", "x": NaN}', Reason.MALFORMED, "NaN"),
        ({"txt": "a"}, Reason.MALFORMED, "keys: txt"),
        ({"tokens": "a"}, Reason.MALFORMED, "list"),
        ({"tokens": [1]}, Reason.MALFORMED, "list"),
        ({"text": 5}, Reason.MALFORMED, "text is 5"),
        ({"text": "a", "id": [1]}, Reason.MALFORMED, "id is"),
        ({"text": "a", "split": "other"}, Reason.MALFORMED, "train, validation, test"),
        ({"tokens": ["a"], "ner_tags": []}, Reason.MALFORMED, "1 tokens but 0"),
        ({"tokens": ["a"], "ner_tags": [3]}, Reason.MALFORMED, "ClassLabel"),
        ({"tokens": ["a"], "ner_tags": ["PER"]}, Reason.ILLEGAL_TAG, "'PER'"),
        ({"tokens": ["a"], "ner_tags": [None]}, Reason.ILLEGAL_TAG, "None"),
        ({"text": "abc", "ner_tags": ["O"]}, Reason.MALFORMED, "'tokens' is not"),
        ({"tokens": ["a"], "spans": [[0, 1, "PER"]]}, Reason.MALFORMED, "'text' is not"),
        ({"text": "abc", "spans": [[0, 4, "PER"]]}, Reason.BAD_SPAN, "leaves"),
        ({"text": "abc", "spans": [[-1, 2, "PER"]]}, Reason.BAD_SPAN, "leaves"),
        ({"text": "abc", "spans": [[1, 1, "PER"]]}, Reason.BAD_SPAN, "empty"),
        ({"text": "abc", "spans": [{"start": [0, 2], "end": [1, 3], "label": "PER"}]}, Reason.BAD_SPAN, "one range"),
        ({"text": "abc", "spans": [[[0, 1], [2, 3], "PER"]]}, Reason.BAD_SPAN, "one range"),
        ({"text": "abc", "spans": [[True, 2, "PER"]]}, Reason.BAD_SPAN, "one range"),
        ({"text": "abc", "spans": [[0, 1, " "]]}, Reason.BAD_SPAN, "label"),
        ({"text": "abc", "spans": [[0, 1, None]]}, Reason.BAD_SPAN, "no tag or label"),
        ({"text": "abc", "spans": 5}, Reason.BAD_SPAN, "allowed: a list"),
    ],
)
def test_jsonl_bad_rows_are_rows(tmp_path: Path, row: object, reason: Reason, words: str) -> None:
    records = _jsonl(tmp_path, row, {"text": "good"})
    assert [r.reason for r in records] == [reason, None]
    assert words in records[0].detail


def test_jsonl_bad_utf8_and_blank_lines(tmp_path: Path) -> None:
    records = _records(_file(tmp_path, b'{"text": "a\xff"}\r\n\r\n{"text": "b"}', "jsonl"))
    assert [(r.line, r.reason, r.text) for r in records] == [(1, Reason.BAD_UTF8, "a\ufffd"), (3, None, "b")]


def test_struct_of_lists_and_numbered_labels() -> None:
    assert char_span((0, 1, 1), 3, ["PER", "LOC"]) == (0, 1, "LOC")


# text


def test_text_every_line_is_a_row(tmp_path: Path) -> None:
    records = _records(_file(tmp_path, "one\n\nthree\u2028still three\r\nfour", "text"))
    assert [(r.line, r.text) for r in records] == [(1, "one"), (2, ""), (3, "three\u2028still three"), (4, "four")]


def test_sentences_are_cut_with_ids(tmp_path: Path) -> None:
    file = _file(tmp_path, "Mr. Smith went. He 😀 came. Bye!\n\nOne more.\n", "text", sentences=True)
    records = _records(file)
    assert [(r.id, r.doc_id, r.text) for r in records] == [
        ("a.x:1#0", "a.x:1", "Mr. Smith went."),
        ("a.x:1#1", "a.x:1", "He 😀 came."),
        ("a.x:1#2", "a.x:1", "Bye!"),
        ("a.x:3#0", "a.x:3", "One more."),
    ]
    document = Record(0, id="d", text="A b. C d.")
    assert [(r.id, r.doc_id) for r in cut(document, file)] == [("d#0", "d"), ("d#1", "d")]
    labelled = Record(0, text="A b. C d.", chars=[])
    assert cut(labelled, file) == [labelled]


# tables


def _parquet(tmp_path: Path, table: pa.Table, name: str = "a.parquet", **options) -> File:
    pq.write_table(table, tmp_path / name, **options)
    return File(str(tmp_path / name), name, "parquet", "eng_Latn")


def test_parquet_class_labels_and_row_groups(tmp_path: Path) -> None:
    features = {"ner_tags": {"feature": {"names": ["O", "B-PER", "I-PER"], "_type": "ClassLabel"}, "_type": "Sequence"}}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"tokens": [["A", "b"], ["c"], ["d"]], "ner_tags": [[1, 0], [0], [5]], "n": [1, 2, 3]})
    file = _parquet(tmp_path, table.replace_schema_metadata(metadata), row_group_size=2)
    records = _records(file)
    assert [r.spans for r in records] == [[Span(0, 1, "PER")], [], None]
    assert records[2].reason is Reason.ILLEGAL_TAG
    assert [place and tuple(place[:2]) for place, _ in read_records(file)] == [(0, 0), None, (1, 2)]
    assert [r.extra[0].column("n")[r.extra[1]].as_py() for r in records] == [1, 2, 3]
    assert [r.line for _, r in read_records(file, skip=2)] == [2]


def test_parquet_spans_as_structs_and_as_struct_of_lists(tmp_path: Path) -> None:
    spans = [[{"start": 0, "end": 2, "label": "PER"}], None]
    first, second = _records(_parquet(tmp_path, pa.table({"text": ["Al x", "y"], "spans": spans})))
    assert (first.chars, second.chars) == ([(0, 2, "PER")], None)
    lists = pa.table({"text": ["Al x"], "spans": [{"start": [0], "end": [2], "label": ["PER"]}]})
    assert _records(_parquet(tmp_path, lists))[0].chars == [(0, 2, "PER")]


def test_parquet_bad_utf8_is_one_row(tmp_path: Path) -> None:
    text = pa.array([b"ok", b"bad\xff", b"ok"], pa.binary()).view(pa.string())
    tokens = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3]).cast(pa.int32()), text)
    records = _records(_parquet(tmp_path, pa.table({"tokens": tokens})))
    assert [(r.tokens, r.reason) for r in records] == [
        (["ok"], None),
        (["bad\ufffd"], Reason.BAD_UTF8),
        (["ok"], None),
    ]


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (pa.table({"txt": ["a"]}), r"tokens \(or text\) is missing.*columns: txt"),
        (pa.table({"text": ["a"], "lang": ["b"]}), "'lang' has the name of an output column"),
        (pa.table({"text": [1]}), "'text' has the type int64"),
        (pa.table({"tokens": ["a"]}), "'tokens' has the type string"),
        (pa.table({"tokens": [["a"]], "ner_tags": [[1]]}), "no ClassLabel"),
        (pa.table([pa.array(["a"]), pa.array(["b"])], ["text", "text"]), "two columns have the same name"),
    ],
)
def test_parquet_files_that_cannot_be_used(tmp_path: Path, table: pa.Table, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        _records(_parquet(tmp_path, table))
    assert "a.parquet" in str(error.value)


def test_not_parquet_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
        _records(_file(tmp_path, "hello", "parquet", "a.parquet"))
    with pytest.raises(InputError, match=r"a\.arrow: cannot be read as Arrow"):
        _records(_file(tmp_path, "hello hello hello", "dataset", "a.arrow"))


class _Own(pa.ExtensionType):
    def __init__(self) -> None:
        super().__init__(pa.string(), "test.own")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: pa.DataType, serialized: bytes) -> "_Own":
        return cls()


def _arrow_stream(path: Path, table: pa.Table, rows: int = 2) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("nested", [False, True])
def test_extension_types_are_refused_registered_or_not(tmp_path: Path, suffix: str, nested: bool) -> None:
    metadata = {"ARROW:extension:name": "ray.data.arrow_pickled_object", "ARROW:extension:metadata": ""}
    unknown = pa.field("x", pa.binary(), metadata=metadata)
    if nested:
        unknown = pa.field("x", pa.list_(pa.struct([unknown])))
    values = pa.array([[{"x": b"code"}]] if nested else [b"code"], unknown.type)
    known = pa.ExtensionArray.from_storage(_Own(), pa.array(["a"]))
    pa.register_extension_type(_Own())
    try:
        for field, array, name in (
            (unknown, values, "ray.data.arrow_pickled_object"),
            (pa.field("y", known.type), known, "test.own"),
        ):
            table = pa.table([pa.array(["a"]), array], schema=pa.schema([("text", pa.string()), field]))
            path = tmp_path / f"e.{suffix}"
            if suffix == "arrow":
                _arrow_stream(path, table)
            else:
                pq.write_table(table, path)
            with pytest.raises(InputError, match=name):
                _records(File(str(path), path.name, "dataset", "eng_Latn"))
    finally:
        pa.unregister_extension_type("test.own")


@pytest.mark.parametrize("dictionary", [False, True])
def test_arrow_stream_batches_are_places(tmp_path: Path, dictionary: bool) -> None:
    kind = pa.dictionary(pa.int32(), pa.string()) if dictionary else pa.string()
    table = pa.table({"text": [f"t{i}" for i in range(5)], "tag": pa.array(list("ababa")).cast(kind)})
    _arrow_stream(tmp_path / "s.arrow", table)
    file = File(str(tmp_path / "s.arrow"), "s.arrow", "dataset", "eng_Latn")
    pairs = list(read_records(file))
    assert [r.text for _, r in pairs] == [f"t{i}" for i in range(5)]
    places = [place for place, _ in pairs if place]
    assert [place.line for place in places] == ([0] if dictionary else [0, 2, 4])
    for place in places:
        assert [r.line for _, r in read_records(file, place)] == list(range(place.line, 5))


@pytest.mark.parametrize("dictionary", [False, True])
def test_an_arrow_stream_cut_anywhere_is_an_error(tmp_path: Path, dictionary: bool) -> None:
    kind = pa.dictionary(pa.int32(), pa.string()) if dictionary else pa.string()
    table = pa.table({"text": [f"t{i}" for i in range(5)], "tag": pa.array(list("ababa")).cast(kind)})
    path = tmp_path / "s.arrow"
    _arrow_stream(path, table)
    file, whole = File(str(path), "s.arrow", "dataset", "eng_Latn"), path.read_bytes()
    places = [place for place, _ in read_records(file) if place]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"s\.arrow: cannot be read as Arrow"):
            _records(file)
    path.write_bytes(whole[:-8])
    for place in places:
        with pytest.raises(InputError, match="cut off: no end-of-stream marker"):
            list(read_records(file, place))
    _arrow_stream(path, table.slice(0, 0))
    assert _records(file) == []


# which files


def test_guess_names_what_it_knows() -> None:
    assert guess("x", ["a.CoNLL", "b.conll03.gz"]) == "conll"
    assert guess("x", ["a.iob2", "README.md"]) == "uner"
    with pytest.raises(InputError, match=r"cannot be guessed, no name ends.*set input.format.*jsonl: \.jsonl"):
        guess("x", ["a.csv"])
    with pytest.raises(InputError, match=r"several \(text, uner\)"):
        guess("x", ["a.txt", "b.iob2"])


def test_split_of_file() -> None:
    names = ("train-0-of-1.parquet", "dev/x.txt", "test.2.txt", "trainer.txt", "a/b.txt")
    assert [split_of_file(name) for name in names] == ["train", "validation", "test", None, None]


def _found(path: str, **options) -> list[tuple[str, str, str]]:
    options = {"format": None, "lang": "eng_Latn", "side": "source", "columns": Columns()} | options
    return [(file.name, file.format, file.split) for file in find_files(path, **options)[0]]


def test_files_folders_globs_and_uris(tmp_path: Path) -> None:
    for name in ("b/test.conll", "a/train.conll", "a/x.conll", "a/.hidden.conll", "_run/y.conll", "note.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a O\n")
    everything = [("train.conll", "conll", "train"), ("x.conll", "conll", "train"), ("test.conll", "conll", "test")]
    assert _found(str(tmp_path)) == everything
    assert _found(f"file://{tmp_path}") == everything
    assert _found(str(tmp_path / "*/[tx]*.conll")) == everything
    assert _found(str(tmp_path / "**/x.conll")) == [("x.conll", "conll", "train")]
    assert _found(f"file://{tmp_path}/b/*.conll") == [("test.conll", "conll", "test")]
    assert _found(str(tmp_path / "b/test.conll")) == [("test.conll", "conll", "train")]  # a file is what it is
    assert _found({"test": str(tmp_path / "a/x.conll"), "train": str(tmp_path / "b")}) == [
        ("test.conll", "conll", "train"),
        ("x.conll", "conll", "test"),
    ]
    with pytest.raises(InputError, match="no such file or folder"):
        _found(str(tmp_path / "none.conll"))
    with pytest.raises(InputError, match="no file matches"):
        _found(str(tmp_path / "*.iob"))
    with pytest.raises(InputError, match="no file of format parquet"):
        _found(str(tmp_path), format="parquet")


def test_equal_names_are_told_apart_and_lang_is_filled_in(tmp_path: Path) -> None:
    for folder in ("swh_Latn/one", "swh_Latn/two"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "a.jsonl").write_text("{}")
    found = _found(str(tmp_path / "{lang}"), lang="swh_Latn")
    assert [name for name, _, _ in found] == ["one/a.jsonl", "two/a.jsonl"]


# round trips

_WORD = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=6)


@st.composite
def _sentences(draw: st.DrawFn) -> list[tuple[list[str], list[Span]]]:
    result = []
    for tokens in draw(st.lists(st.lists(_WORD, min_size=1, max_size=6), min_size=1, max_size=8)):
        if tokens[0].startswith(("#", "-DOCSTART-")):
            tokens[0] = "x"
        spans, at = [], 0
        while at < len(tokens):
            if draw(st.booleans()):
                end = draw(st.integers(at + 1, len(tokens)))
                spans.append(Span(at, end, draw(st.sampled_from(["PER", "LOC"]))))
                at = end
            else:
                at += 1
        result.append((tokens, spans))
    return result


@settings(max_examples=60)
@given(sentences=_sentences(), gap=st.sampled_from(["\n", "\n\n", " \t\n\r\n"]), end=st.sampled_from(["\n", "\r\n"]))
def test_conll_round_trip_from_every_place(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[tuple[list[str], list[Span]]], gap: str, end: str
) -> None:
    blocks = []
    for tokens, spans in sentences:
        tags = spans_to_tags(spans, len(tokens))
        blocks.append("".join(f"{token}\t{tag}{end}" for token, tag in zip(tokens, tags, strict=True)))
    file = _file(tmp_path_factory.mktemp("round"), "-DOCSTART-\n\n" + gap.join(blocks), "conll")
    pairs = list(read_records(file))
    assert [(r.tokens, r.spans) for _, r in pairs] == sentences
    for number, (place, _) in enumerate(pairs):
        assert place is not None
        assert [r for _, r in read_records(file, place)] == [r for _, r in pairs[number:]]


@settings(max_examples=60)
@given(texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=6))
def test_jsonl_round_trip_from_every_place(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    content = "\n".join(json.dumps({"text": text}, ensure_ascii=False) for text in texts)
    file = _file(tmp_path_factory.mktemp("round"), content, "jsonl")
    pairs = list(read_records(file))
    assert [r.text for _, r in pairs] == texts
    for number, (place, _) in enumerate(pairs):
        assert place is not None
        assert [r for _, r in read_records(file, place)] == [r for _, r in pairs[number:]]


def test_blocks_do_not_depend_on_where_chunks_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\n \na O\nb O\n\n \n\t\nc O\r\n\r\n-DOCSTART-\n\nd O\n \n"
    whole = list(read_records(_file(tmp_path, content, "conll")))
    lines = list(read_records(_file(tmp_path, content, "text", "b.txt")))
    for size in range(3, 20):
        monkeypatch.setattr("xner_ray.read.lines._CHUNK_BYTES", size)
        assert list(read_records(_file(tmp_path, content, "conll"))) == whole
        assert list(read_records(_file(tmp_path, content, "text", "b.txt"))) == lines


def test_input_in_the_working_directory_of_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray unpacks a copy for every node and every change: the same file when its content is, wherever it lies."""
    copies = [
        tmp_path / "s/runtime_resources/working_dir_files" / name / "jobs" for name in ("_ray_pkg_1", "_ray_pkg_2")
    ]
    for number, folder in enumerate(copies):
        folder.mkdir(parents=True)
        (folder / "a.conll").write_text("Ada\tB-PER\n")
        os.utime(folder / "a.conll", ns=(number, number))
    options: dict[str, Any] = {"format": None, "lang": "eng_Latn", "side": "input", "columns": Columns()}
    (first, said), (_, again) = (find_files(str(folder / "a.conll"), **options) for folder in copies)
    assert said == again
    monkeypatch.chdir(copies[1])
    (copies[0] / "a.conll").unlink()
    (record,) = iterate(first[0], Place(), 0, 1)
    assert list(record.tokens or ()) == ["Ada"]
    (copies[1] / "a.conll").write_text("Bob\tB-PER\n")
    with pytest.raises(InputError, match=r"a\.conll"):
        list(iterate(first[0], Place(), 0, 1))
