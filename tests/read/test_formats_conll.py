"""CoNLL and UNER files -> records."""

import gzip
from pathlib import Path

import pytest
from format_files import conll, file_of, records_of

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.records import read_records

# CoNLL


def test_conll_last_column_is_the_tag_and_blank_lines_do_not_count(tmp_path: Path) -> None:
    first, second = conll(tmp_path, "\n\nJohn NNP B-PER\nsleeps VBZ O\n\n \t\n\nHere\tRB\tO\n")
    assert (first.tokens, first.spans, first.line) == (["John", "sleeps"], [Span(0, 1, "PER")], 3)
    assert (second.tokens, second.spans, second.line) == (["Here"], [], 8)


def test_conll_without_a_last_newline_with_crlf_and_bom(tmp_path: Path) -> None:
    plain = conll(tmp_path, "A\tB-PER\nb\tO\n\nC\tO\n")
    for other in (
        b"A\tB-PER\nb\tO\n\nC\tO",
        b"\xef\xbb\xbfA\tB-PER\r\nb\tO\r\n\r\nC\tO\r\n",
        b"A\tB-PER\nb\tO\n\nC\tO\r",
    ):
        assert conll(tmp_path, other) == plain


@pytest.mark.parametrize(
    ("tags", "spans", "repaired"),
    [
        (["I-PER", "I-PER", "B-PER"], [Span(0, 2, "PER"), Span(2, 3, "PER")], 1),
        (["B-PER", "E-PER", "S-LOC"], [Span(0, 2, "PER"), Span(2, 3, "LOC")], 0),
        (["B-PER", "L-PER", "U-LOC"], [Span(0, 2, "PER"), Span(2, 3, "LOC")], 0),
    ],
)
def test_conll_notations(tmp_path: Path, tags: list[str], spans: list[Span], repaired: int) -> None:
    (record,) = conll(tmp_path, "".join(f"w {tag}\n" for tag in tags))
    assert (record.spans, record.repaired) == (spans, repaired)


def test_conll_one_column_is_unlabelled(tmp_path: Path) -> None:
    (record,) = conll(tmp_path, "a\nb\n")
    assert (record.tokens, record.spans, record.labelled) == (["a", "b"], None, False)


def test_conll_docstart(tmp_path: Path) -> None:
    records = conll(
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
    first, second = conll(tmp_path, text)
    assert (first.id, first.doc_id, first.text, first.tokens) == ("s1", "d1", "John sleeps.", ["John", "sleeps", "."])
    assert first.line == 6
    assert (second.id, second.doc_id) == (None, "d2")


@pytest.mark.parametrize(
    ("line", "token"),
    [("#\tO", "#"), ("# O", "#"), ("# NN B-MISC", "#"), ("#tag O", "#tag"), ("#tag = O", "#tag"), ("# = O", "#")],
)
def test_conll_a_hash_is_a_word_where_it_has_a_tag(tmp_path: Path, line: str, token: str) -> None:
    (record,) = conll(tmp_path, f"{line}\n")
    assert (record.tokens, record.reason) == ([token], None)


def test_conll_a_hash_after_the_first_word_is_never_a_comment(tmp_path: Path) -> None:
    (record,) = conll(tmp_path, "a\tO\n#\tO\n#1\tO\n")
    assert record.tokens == ["a", "#", "#1"]
    (record,) = conll(tmp_path, "a O\n# id = x\n")
    assert record.reason is Reason.MALFORMED


def test_conll_comments_alone_announce_a_sentence_only_with_id_or_text(tmp_path: Path) -> None:
    records = conll(tmp_path, "# global.columns = x\n\n# id = e\n\na O\n")
    assert [(r.id, r.tokens) for r in records] == [("e", []), (None, ["a"])]


def test_conll_malformed_and_illegal(tmp_path: Path) -> None:
    records = conll(tmp_path, "a O\nb\n\nNew York B-LOC\nis O\n\na O\nb X-PER\n\nc O\n\nd\tO\te\n")
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
    records = conll(tmp_path, b"a O\n\nb\xff O\n\nc O\n")
    assert [r.reason for r in records] == [None, Reason.BAD_UTF8, None]
    assert records[1].tokens == ["b\ufffd"]


def test_conll_words_split_at_ascii_blanks_and_lines_at_newlines_only(tmp_path: Path) -> None:
    (record,) = conll(tmp_path, "a\u2028b O\n\u200b O\nx\x85y O\n")
    assert record.tokens == ["a\u2028b", "\u200b", "x\x85y"]


def test_utf16_and_broken_gzip_are_errors_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="UTF-16"):
        conll(tmp_path, "a O\n".encode("utf-16"))
    with pytest.raises(InputError, match=r"b\.conll\.gz: cannot be read"):
        conll(tmp_path, b"no gzip", name="b.conll.gz")


def test_gzip(tmp_path: Path) -> None:
    file = file_of(tmp_path, gzip.compress(b"a O\n\nb O\n"), "conll", "c.conll.gz")
    assert [record.tokens for record in records_of(file)] == [["a"], ["b"]]
    assert {place for place, _ in read_records(file)} == {None}


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
    first, second = records_of(file_of(tmp_path, _UNER, "uner"))
    assert first.tokens == ["Vamos", "de", "a", "5", "000", "casa"]
    assert (first.spans, first.id, first.doc_id) == ([Span(2, 5, "LOC")], "s1", "n1")
    assert first.text == "Vamos da 5 000 casa"
    assert (second.tokens, second.id, second.doc_id) == (["#"], "s2", "n1")
    (bad,) = records_of(file_of(tmp_path, "1\ta\tO\nx\tb\tO\n", "uner"))
    assert bad.reason is Reason.MALFORMED
    assert "line 2" in bad.detail
