"""How the tags of files with a word a line are spelled is found out, or stated and checked."""

from pathlib import Path

import pytest
from format_files import file_of
from settling import settled, settled_records

from xner_ray.data.spans import Span
from xner_ray.data.tag_styles import TagStyle
from xner_ray.errors import InputError, Reason
from xner_ray.read.record import File, Stated

SPANS = [Span(0, 3, "PER"), Span(3, 4, "PER"), Span(5, 6, "LOC")]


def tagged(tmp_path: Path, tags: str, scheme: str | None = None, separator: str = "\t") -> File:
    lines = [f"w{at}{separator}{tag}" if tag else "" for at, tag in enumerate(tags.split(" "))]
    return file_of(tmp_path, "\n".join(lines), "conll", stated=Stated(scheme=scheme))


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("B-PER I-PER I-PER B-PER O B-LOC", []),
        ("B-PER I-PER E-PER S-PER O S-LOC", []),
        ("B-PER I-PER L-PER U-PER O U-LOC", []),
        ("I-PER I-PER I-PER B-PER O I-LOC", ["scheme IOB1"]),
        ("B-PER M-PER E-PER S-PER O S-LOC", ["scheme BMES"]),
        ("B-PER M-PER E-PER W-PER O W-LOC", ["scheme BMES"]),
        ("B_PER I_PER I_PER B_PER O B_LOC", ["tags as B_PER"]),
        ("B:PER I:PER I:PER B:PER O B:LOC", ["tags as B:PER"]),
        ("B/PER M/PER E/PER S/PER O S/LOC", ["scheme BMES", "tags as B/PER"]),
        ("PER-B PER-I PER-I PER-B O LOC-B", ["tags as PER-B"]),
        ("PER.B PER.I PER.E PER.S O LOC.S", ["scheme BIOES", "tags as PER.B"]),
        ("B-PER I-PER I-PER B-PER o B-LOC", ["o for O"]),
        ("B-PER I-PER I-PER B-PER 0 B-LOC", ["0 for O"]),
        ("B-PER I-PER I-PER B-PER _ B-LOC", ["_ for O"]),
        ("B-PER I-PER I-PER B-PER OUT B-LOC", ["OUT for O"]),
        ("b-PER i-PER i-PER b-PER O b-LOC", []),
    ],
)
def test_spellings(tmp_path: Path, tags: str, said: list[str]) -> None:
    (record,), found = settled_records(tagged(tmp_path, tags))
    assert (record.spans, record.repaired, record.reason) == (SPANS, 0, None)
    assert found == said


@pytest.mark.parametrize("outside", ["O", "o", "0", "_", "-", "OUT"])
def test_labels_without_prefix(tmp_path: Path, outside: str) -> None:
    """Stanford's, and Few-NERD's with a hyphen in its labels."""
    tags = f"PERSON PERSON {outside} {outside} person-actor {outside} {outside} PERSON art-other"
    (record,), said = settled_records(tagged(tmp_path, tags))
    expected = [Span(0, 2, "PERSON"), Span(4, 5, "person-actor"), Span(7, 8, "PERSON"), Span(8, 9, "art-other")]
    assert (record.spans, record.repaired) == (expected, 0)
    assert said[:2] == ["scheme IO", "neighbouring words of one label are one entity"]


@pytest.mark.parametrize(
    "tags",
    ["B-PER I-PER O PER O LOC PER O B-LOC", "PERSON O B-PERSON I-PERSON O ORG O LOC O B-ORG I-ORG B-LOC O"],
)
def test_a_mixture_is_refused(tmp_path: Path, tags: str) -> None:
    with pytest.raises(InputError, match=r"writes tags in two ways: \d with a prefix, \d without.* input.scheme: iob2"):
        settled(tagged(tmp_path, tags))
    records, said = settled_records(tagged(tmp_path, tags, "iob2"))
    assert [record.reason for record in records] == [Reason.ILLEGAL_TAG]
    assert "tags are none" in said[0]


def test_a_mixture_of_more_labels_than_tags_with_prefix(tmp_path: Path) -> None:
    tags = "PER PER O LOC O O O B-PER I-PER B-LOC O O ORG ORG O  LOC O"
    with pytest.raises(InputError, match=r"two ways: 3 with a prefix, 6 without, as B-PER.* input.scheme: io, "):
        settled(tagged(tmp_path, tags))
    records, _ = settled_records(tagged(tmp_path, tags, "io"))
    assert [record.reason for record in records] == [Reason.ILLEGAL_TAG, None]
    assert "line 8: illegal tag 'B-PER'" in records[0].detail


def test_a_few_wrong_tags_reject_their_rows(tmp_path: Path) -> None:
    records, said = settled_records(tagged(tmp_path, "B-PER I-PER O B-LOC  B-PER PRE O  O B-LOC 0"))
    assert [record.reason for record in records] == [None, Reason.ILLEGAL_TAG, Reason.ILLEGAL_TAG]
    assert "line 7: illegal tag 'PRE'" in records[1].detail
    assert said == ["2 tags are none: PRE, 0"]


@pytest.mark.parametrize("tag", ["B-PER,B-LOC", "B-PER|B-LOC", "B-PER|O", "B_PER;I_ORG", "B-PER+B-LOC"])
def test_two_tags_in_one_are_refused(tmp_path: Path, tag: str) -> None:
    with pytest.raises(InputError, match=r"column 2 holds words with two tags, as .*column of its own.*input.columns"):
        settled(tagged(tmp_path, f"B-PER O O {tag} O B-ORG"))


def test_labels_with_signs_are_no_two_tags(tmp_path: Path) -> None:
    (record,), _ = settled_records(tagged(tmp_path, "B-S+U O B-R&D I-R&D B-a,b"))
    assert [span.label for span in record.spans] == ["S+U", "R&D", "a,b"]


@pytest.mark.parametrize(
    ("scheme", "tags", "problem"),
    [
        ("io", "B-PER I-PER O", r"most tags have a prefix \(B-PER, I-PER\)"),
        ("iob2", "PER O LOC O", r"the tags are labels without a prefix \(LOC, PER\)"),
        ("iob2", "B-PER M-PER E-PER O", "2 tags have the prefix E or M"),
        ("bioes", "B-PER M-PER E-PER O", "1 tags have the prefix M"),
        ("bmes", "B-PER L-PER U-LOC O", "2 tags have the prefix L or U"),
    ],
)
def test_a_stated_scheme_is_checked(tmp_path: Path, scheme: str, tags: str, problem: str) -> None:
    with pytest.raises(InputError, match=f"input.scheme: {scheme} does not fit column 2: {problem}"):
        settled(tagged(tmp_path, tags, scheme))


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("iob1", "I-PER I-PER I-PER B-PER O I-LOC"),
        ("iob2", "B-PER I-PER I-PER B-PER O B-LOC"),
        ("bioes", "B-PER I-PER E-PER S-PER O S-LOC"),
        ("bmes", "B-PER M-PER E-PER S-PER O S-LOC"),
    ],
)
def test_a_stated_scheme_that_fits(tmp_path: Path, scheme: str, tags: str) -> None:
    (record,), _ = settled_records(tagged(tmp_path, tags, scheme))
    assert (record.spans, record.repaired) == (SPANS, 0)


def test_a_stated_scheme_takes_labels_that_have_no_o_beside_them(tmp_path: Path) -> None:
    from xner_ray.recipe.columns import Columns

    file = file_of(tmp_path, "Nora PER\nOslo LOC\n", "conll", stated=Stated("io"), columns=Columns(tags="2"))
    (record,), _ = settled_records(file)
    assert record.spans == [Span(0, 1, "PER"), Span(1, 2, "LOC")]


def test_words_of_portuguese_are_no_tags(tmp_path: Path) -> None:
    """o is a word there, and a spelling of O elsewhere."""
    text = "o\tDET\tO\nPedro\tPROPN\tB-PER\no\tPRON\tO\nviu\tVERB\tO\n"
    (record,), said = settled_records(file_of(tmp_path, text, "conll"))
    assert (record.tokens, record.spans, said) == (["o", "Pedro", "o", "viu"], [Span(1, 2, "PER")], [])


def test_iob1_is_told_by_what_follows_an_o_alone(tmp_path: Path) -> None:
    """One I- that opens an entity is a fault where a B- does so elsewhere, and is counted."""
    records, said = settled_records(tagged(tmp_path, "I-PER O  B-LOC O"))
    assert ([record.repaired for record in records], said) == ([1, 0], [])
    assert settled(tagged(tmp_path, "I-PER O"))[1].reading.style == TagStyle("iob1")
