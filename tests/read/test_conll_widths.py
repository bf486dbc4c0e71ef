"""Files with a word a line whose last columns are empty in some lines or sentences, and what stands between these."""

from pathlib import Path

import pytest
from format_files import file_of
from settled import read, settled

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.find import find_files
from xner_ray.recipe.columns import Columns

WORDS = [("Nora", "B-PER"), ("Falk", "I-PER"), ("saw", "O"), ('"', "O"), ("Oslo", "B-LOC"), (".", "O")]
SPANS = [Span(0, 2, "PER"), Span(4, 5, "LOC")]
PLAIN = [("He", "O"), ("left", "O"), (".", "O")]


def _linked(numbered: bool, order: int) -> str:
    """As MultiNERD has links of entities in two more columns, which are empty in other lines."""
    sentences = []
    for n in range(40):
        words = (WORDS, PLAIN)[(n + order) % 2]
        lines = []
        for place, (word, tag) in enumerate(words):
            link = "bn:0001n\tQ1" if tag[0] == "B" else "\tQ2" if tag[0] == "I" else "\t"
            lines.append((f"{place}\t" if numbered else "") + f"{word}\t{tag}\t{link}")
        sentences.append("\n".join(lines))
    return "\n\n".join(sentences)


@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_columns_that_are_empty_in_some_lines(tmp_path: Path, numbered: bool, order: int, end: str) -> None:
    content = _linked(numbered, order) + end
    for name in ("a.conll", "train_en", "a.txt"):
        (tmp_path / name).write_text(content)
        (found,) = find_files(str(tmp_path / name), format=None, lang="eng_Latn", side="source", columns=Columns())
        assert found.format == "conll"
    file = file_of(tmp_path, content, "conll")
    records = read(file)
    assert [record.reason for record in records] == [None] * 40
    assert [record.spans for record in records[order::2]] == [SPANS] * 20
    assert [record.tokens for record in records[1 - order :: 2]] == [["He", "left", "."]] * 20
    assert settled(file, [200, 700]) == settled(file)


def test_a_sentence_without_the_column_of_tags_is_malformed(tmp_path: Path) -> None:
    lines = [f"{word}\tX\t{tag}\tQ" if n % 2 else f"{word}\tX\t{tag}" for n in range(9) for word, tag in WORDS]
    content = "\n\n".join("\n".join(lines[n * 6 : n * 6 + 6]) for n in range(9)) + "\n\nOslo\tX\n"
    *good, bad = read(file_of(tmp_path, content, "conll"))
    assert [record.spans for record in good] == [SPANS] * 9
    assert bad.reason == Reason.MALFORMED
    assert "has 2 columns" in bad.detail


@pytest.mark.parametrize("blank", ["", " ", "\t", "\u00a0", "\u3000", " \u00a0\t", "\r"])
def test_lines_that_look_blank_part_sentences(tmp_path: Path, blank: str) -> None:
    block = "\n".join(f"{word}\t{tag}" for word, tag in WORDS)
    file = file_of(tmp_path, f"\n{blank}\n".join([block] * 5), "conll")
    assert [record.spans for record in read(file)] == [SPANS] * 5
    assert settled(file, [50, 100]) == settled(file)


def test_a_blank_as_a_word_parts_nothing(tmp_path: Path) -> None:
    (record,) = read(file_of(tmp_path, "Nora\tB-PER\n\u00a0\tO\nleft\tO\n", "conll"))
    assert record.tokens == ["Nora", "\u00a0", "left"]


@pytest.mark.parametrize("mark", ["###MEDLINE:95369245", "###"])
@pytest.mark.parametrize("gap", ["\n", "\n\n"])
def test_marks_of_abstracts_are_comments(tmp_path: Path, mark: str, gap: str) -> None:
    block = "\n".join(f"{word}\t{tag}" for word, tag in WORDS)
    records = read(file_of(tmp_path, "\n\n".join([f"{mark}{gap}{block}"] * 5), "conll"))
    assert [record.spans for record in records] == [SPANS] * 5
    (record,) = read(file_of(tmp_path, "###\tB-X\n##x\tO\n", "conll"))
    assert record.tokens == ["###", "##x"]


@pytest.mark.parametrize("tags", ["BIO", "BIESO", "BILUO"])
def test_prefixes_without_labels_are_refused_with_the_cure(tmp_path: Path, tags: str) -> None:
    content = "".join(f"w{tag}\t{tag}\nx\tO\n" for tag in tags) + "\n"
    with pytest.raises(InputError, match=r"the tags B, .* have no label; .*B-ENTITY, which sed -E .*FILE > NEW"):
        settled(file_of(tmp_path, content * 5, "conll"))
    cured = "".join(line + ("-ENTITY" if line[-1:] in set("BIESLU") else "") + "\n" for line in content.split("\n"))
    assert read(file_of(tmp_path, cured * 5, "conll"))[0].spans


def test_a_column_that_may_hold_labels_is_named_where_another_does(tmp_path: Path) -> None:
    rows = [f"{word}\t{'person' if tag != 'O' else 'none'}\t{tag}" for word, tag in WORDS]
    said = settled(file_of(tmp_path, "\n\n".join(["\n".join(rows)] * 9), "conll")).said
    assert said == ["not read: column 2, which may hold labels too (none, person)"]


@pytest.mark.parametrize("name", ["a.tsv", "a.txt", "a.conll", "train"])
def test_labels_of_several_words_between_tabs(tmp_path: Path, name: str) -> None:
    tags = [tag.replace("LOC", "geo location").replace("PER", "Person of Note") for _, tag in WORDS]
    block = "\n".join(f"{word}\t{tag}" for (word, _), tag in zip(WORDS, tags, strict=True))
    (tmp_path / name).write_text("\n\n".join([block] * 20))
    (found,) = find_files(str(tmp_path / name), format=None, lang="eng_Latn", side="source", columns=Columns())
    assert found.format == "conll"
    for record in read(found):
        assert record.spans == [Span(0, 2, "Person of Note"), Span(4, 5, "geo location")]


def test_tags_of_a_sentence_in_one_cell_are_no_label_of_several_words(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("Nora left\tB-PER O\nOslo is far\tB-LOC O O\nAda Falk\tB-PER I-PER\n" * 9)
    (found,) = find_files(str(tmp_path / "a.tsv"), format=None, lang="eng_Latn", side="source", columns=Columns())
    assert found.format == "table"
    assert [record.spans for record in read(found)][:3] == [
        [Span(0, 1, "PER")],
        [Span(0, 1, "LOC")],
        [Span(0, 2, "PER")],
    ]
