"""Comments, marks and missing blank lines in files with a word a line."""

from dataclasses import replace
from pathlib import Path

import pytest
from format_files import conll, file_of
from settling import settled, settled_records

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.record import File, Reading
from xner_ray.read.records import read_records
from xner_ray.read.word_lines import breaks


def test_multiconer(tmp_path: Path) -> None:
    text = "\n# id 5f3c-ab\tdomain=en\nnora _ _ B-PER\nfalk _ _ I-PER\nslept _ _ O\n\n\n# id 77\noslo _ _ B-LOC\n"
    records, said = settled_records(file_of(tmp_path, text, "conll"))
    assert [(r.id, r.tokens, r.line) for r in records] == [
        ("5f3c-ab", ["nora", "falk", "slept"], 3),
        ("77", ["oslo"], 9),
    ]
    assert [r.spans for r in records] == [[Span(0, 2, "PER")], [Span(0, 1, "LOC")]]
    assert said == []


@pytest.mark.parametrize(
    "comment",
    [
        "#\thttp://de.wikipedia.org/wiki/Nora_Falk\t[2009-10-17]",
        "#\tn-tv.de vom 26.02.2005 [2005-02-26] \t[2005-02-26]",
        "#\thttps://example.org/a",
        "% made by us in 2024",
        "# made by us in 2024",
        "# id 17",
        "# source_url = http://x",
        "#",
    ],
)
def test_comments(tmp_path: Path, comment: str) -> None:
    (record,) = conll(tmp_path, f"{comment}\nOslo\tB-LOC\nis\tO\n")
    assert (record.tokens, record.reason, record.line) == (["Oslo", "is"], None, 2)


@pytest.mark.parametrize(
    ("line", "after"),
    [
        ("#\tO", "x\tO"),
        ("# O", "x O"),
        ("# id O", "x NN O"),
        ("# NN B-MISC", "x NN O"),
        ("%\tO", "x\tO"),
        ("% NN O", "x NN O"),
        ("%\tNN\tB-X", "x\tNN\tO"),
        ("#1\tO", "x\tO"),
        ("%d O", "x O"),
    ],
)
def test_signs_stay_words(tmp_path: Path, line: str, after: str) -> None:
    (record,) = conll(tmp_path, f"{line}\n{after}\n")
    assert (record.tokens, record.reason) == ([line.split()[0], "x"], None)


def test_germeval_with_its_outer_level(tmp_path: Path) -> None:
    text = "#\thttp://de.wikipedia.org/wiki/A\t[2009-10-17]\n1\tAuch\tO\tO\n2\tNora\tB-PER\tO\n\n"
    text += "#\thttp://de.wikipedia.org/wiki/B\t[2010-01-02]\n1\tFC\tB-ORG\tO\n2\tOslo\tI-ORG\tB-LOC\n"
    with pytest.raises(
        InputError, match=r"column 3: ORG 2, PER 1; column 4: LOC 1.*input.columns: {tokens: 2, tags: 3}"
    ):
        settled(file_of(tmp_path, text, "conll"))
    outer, said = settled_records(file_of(tmp_path, text.replace("B-LOC", "O"), "conll"))
    assert [(r.tokens, r.spans) for r in outer] == [
        (["Auch", "Nora"], [Span(1, 2, "PER")]),
        (["FC", "Oslo"], [Span(0, 2, "ORG")]),
    ]
    assert "column 4 holds no entity" in said


def test_the_line_that_is_wrong_is_named(tmp_path: Path) -> None:
    text = "a fine comment that is none .\nNora B-PER\nslept O\n. O\n\nx O\ny\nz O\n"
    one, two = conll(tmp_path, text)
    assert one.detail.startswith("line 1 has 7 columns, the other lines of its sentence have 2: 'a fine comment")
    assert two.detail == "line 7 has 1 column, the other lines of its sentence have 2: 'y'"


HIPE = """TOKEN\tNE-COARSE-LIT\tNE-COARSE-METO\tNE-FINE-LIT\tNE-NESTED\tNEL-LIT\tMISC
# hipe2022:document_id = d{n}
# hipe2022:date = 1881-01-01
Nora\tB-pers\tO\tB-pers.ind\tO\tQ1\tLED0.00
Falk\tI-pers\tO\tI-pers.ind\tO\tQ1\tNoSpaceAfter|LED0.00
.\tO\tO\tO\tO\t_\tEndOfSentence
# segment_iiif_link = http://x
Oslo\tB-loc\tO\tB-loc.adm\tB-loc\tQ2\t_
.\tO\tO\tO\tO\t_\tEndOfSentence|NoSpaceAfter

# hipe2022:document_id = e
ein\tO\tO\tO\tO\t_\t_
"""


def test_hipe(tmp_path: Path) -> None:
    records, said = settled_records(file_of(tmp_path, HIPE.replace("{n}", "1"), "conll"))
    assert [(r.tokens, r.doc_id, r.line) for r in records] == [
        (["Nora", "Falk", "."], "d1", 4),
        (["Oslo", "."], "d1", 8),
        (["ein"], "e", 12),
    ]
    assert [r.spans for r in records] == [[Span(0, 2, "pers")], [Span(0, 1, "loc")], []]
    assert said == [
        "words in column 1 (TOKEN), tags in column 2 (NE-COARSE-LIT) of 7",
        "not read: NE-FINE-LIT, NE-NESTED",
        "line 1 names the columns",
        "sentences end at EndOfSentence in column 7",
    ]


TEXT = [
    ("Nora/B-PER slept/O ./O", 1),
    ('She/O said/O :/O "/O Go/O !/O "/O', 1),
    ("He/O went/O (/O to/O Yahoo/B-ORG !/I-ORG HQ/I-ORG in/O U.S./B-LOC )/O ./O", 1),
    ("नोरा/B-PER सोई/O ।/O", 1),
    ("她/O 说/O 「/O 好/O 。/O 」/O", 1),
    ("ماذا/O ؟/O", 1),
    ("Wait/O .../O what/O ?!/O ''/O", 1),
    ("no/O end/O", 1),
]


def whole(tmp_path: Path, times: int = 1, **options) -> File:
    lines = [word.replace("/", "\t") for text, _ in TEXT * times for word in text.split()]
    return file_of(tmp_path, "\n".join(lines) + "\n", "conll", **options)


def test_a_file_without_blank_lines_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no blank line in 39 lines.*input.split: sentences, which cuts"):
        settled(whole(tmp_path))
    with pytest.raises(InputError, match="no blank line in 300 lines"):
        settled(file_of(tmp_path, "word\tO\n" * 299 + "Oslo\tB-LOC\n", "conll"))
    assert settled(file_of(tmp_path, "Hi\tO\n!\tO\nWho\tO\n?\tO\n", "conll"))[1].reading == Reading()


def test_a_file_without_blank_lines_is_cut(tmp_path: Path) -> None:
    file, found = settled(whole(tmp_path, sentences=True))
    assert found.said == ["7 sentences cut at final punctuation"]
    pairs = list(read_records(file))
    expected = [[word.split("/")[0] for word in text.split()] for text, _ in TEXT]
    assert [record.tokens for _, record in pairs] == expected
    assert [record.line for _, record in pairs] == [1, 4, 11, 22, 25, 31, 33, 38]
    assert [record for _, record in pairs][2].spans == [Span(4, 7, "ORG"), Span(8, 9, "LOC")]
    for number, (place, _) in enumerate(pairs):
        assert [record for _, record in read_records(file, place)] == [record for _, record in pairs[number:]]


def test_a_file_in_sentences_is_not_cut(tmp_path: Path) -> None:
    text = "Nora B-PER\n. O\n\nOslo B-LOC\n. O\n"
    with pytest.raises(InputError, match=r"2 of 2 sentences end at a blank line: .*leave input.split out"):
        settled(file_of(tmp_path, text, "conll", sentences=True))


def test_nothing_is_held_without_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaks, "_LONGEST_LINES", 50)
    with pytest.raises(InputError, match="no sentence ends in 50 lines before line 51"):
        settled(file_of(tmp_path, "word\tO\n" * 60, "conll", sentences=True))


def test_bad_rows_in_a_cut_file(tmp_path: Path) -> None:
    text = "Nora\tB-PER\n.\tO\nx\n.\tO\nOslo\tB-LOC\n.\tO\n"
    records, _ = settled_records(file_of(tmp_path, text, "conll", sentences=True))
    assert [record.reason for record in records] == [None, Reason.MALFORMED, None]
    assert replace(records[0]).tokens == ["Nora", "."]
