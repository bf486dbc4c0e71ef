"""Plain text -> records, and the line ends that every format of lines allows."""

from pathlib import Path

import pytest
from format_files import conll, file_of, records_of

from xner_ray.errors import InputError, Reason
from xner_ray.read.record import Record, record_id
from xner_ray.read.records import cut

# line ends


@pytest.mark.parametrize(
    ("format", "line"), [("conll", "a O\r\r"), ("uner", "1\ta\tO\r\r"), ("text", "a\r"), ("jsonl", "{}\r")]
)
def test_a_file_whose_lines_end_with_cr_alone_is_refused(tmp_path: Path, format: str, line: str) -> None:
    with pytest.raises(InputError, match=r"a\.x: carriage returns.*must end with LF or CRLF"):
        records_of(file_of(tmp_path, line * 3, format))


@pytest.mark.parametrize(
    "block",
    ["a O\rb O\n", "# made by us\ra O\n", "-DOCSTART- O\r\ra O\n", "a O\n# id = x\rb O\n", "# text = a\ra O\nb O\n"],
)
def test_conll_a_cr_inside_a_line_is_a_malformed_row(tmp_path: Path, block: str) -> None:
    first, bad, last = conll(tmp_path, f"x O\n\n{block}\ny O\n")
    assert (first.tokens, last.tokens) == (["x"], ["y"])
    assert (bad.reason, bad.text, bad.tokens) == (Reason.MALFORMED, block.rstrip("\n"), None)
    assert bad.line == 3 + block[: block.index("\r")].count("\n")
    assert "LF or CRLF" in bad.detail


def test_text_a_cr_inside_a_line_is_a_malformed_row_and_one_before_crlf_is_not(tmp_path: Path) -> None:
    for sentences in (False, True):
        records = records_of(file_of(tmp_path, "a\rb\nc\r\r\nd\r", "text", sentences=sentences))
        assert [(r.text, r.reason) for r in records] == [("a\rb", Reason.MALFORMED), ("c", None), ("d", None)]
    assert [r.tokens for r in conll(tmp_path, "a O\r\r\n\r\nb O\r\r\n")] == [["a"], ["b"]]


# text


def test_text_every_line_is_a_row(tmp_path: Path) -> None:
    records = records_of(file_of(tmp_path, "one\n\nthree\u2028still three\r\nfour", "text"))
    assert [(r.line, r.text) for r in records] == [(1, "one"), (2, ""), (3, "three\u2028still three"), (4, "four")]


def test_sentences_are_cut_with_ids(tmp_path: Path) -> None:
    file = file_of(tmp_path, "Mr. Smith went. He 😀 came. Bye!\n\nOne more.\n", "text", sentences=True)
    records = records_of(file)
    assert [(record_id(r, file), r.doc_id, r.text) for r in records] == [
        ("a.x:1#0", "a.x:1", "Mr. Smith went."),
        ("a.x:1#1", "a.x:1", "He 😀 came."),
        ("a.x:1#2", "a.x:1", "Bye!"),
        ("a.x:3#0", "a.x:3", "One more."),
    ]
    document = Record(0, id="d", text="A b. C d.")
    assert [(r.id, r.doc_id) for r in cut(document, file)] == [("d#0", "d"), ("d#1", "d")]
