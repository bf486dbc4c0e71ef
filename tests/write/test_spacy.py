"""The .spacy files, read by spaCy itself. Its import takes seconds, so most of these tests are slow."""

import importlib.util
from pathlib import Path

import pytest
from exported import PLAIN, ROW, TEXT, TOKENS, row

from xner_ray.errors import MissingExtraError
from xner_ray.write import spacy as docbin


def _text_of(words: list[str], blanks: list[bool]) -> str:
    return "".join(word + " " * blank for word, blank in zip(words, blanks, strict=True))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (TEXT, TOKENS),
        ("ab", ["a", "b"]),
        (" a b ", ["a", "b"]),
        ("\ta  b\n\n", ["a", "b"]),
        ("a\u00a0b \u3000c", ["a", "b", "c"]),
    ],
)
def test_words_and_white_space_make_up_the_text(text: str, tokens: list[str]) -> None:
    words, blanks, place = docbin._words(row(text, tokens))
    assert _text_of(words, blanks) == text
    assert [words[index] for index in place] == tokens
    assert all(word.isspace() for index, word in enumerate(words) if index not in place)


def test_without_spacy_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"export format spacy needs .* pip install en-core-web-sm"):
        list(docbin.write([ROW]))


@pytest.mark.slow
def test_spacy_reads_words_entities_and_ids(tmp_path: Path) -> None:
    import spacy
    from spacy.tokens import DocBin

    (data,) = docbin.write([ROW, PLAIN])
    path = tmp_path / "a.spacy"
    path.write_bytes(data)
    first, second = DocBin().from_disk(path).get_docs(spacy.blank("es").vocab)
    assert first.text == TEXT and [token.text for token in first if not token.is_space] == TOKENS
    assert [(ent.text, ent.label_) for ent in first.ents] == [("Ana  María", "PER"), ("Málaga", "LOC")]
    assert [TEXT[ent.start_char : ent.end_char] for ent in first.ents] == ["Ana  María", "Málaga"]
    assert [doc.user_data["id"] for doc in (first, second)] == ["doc 1/ö", "2"]
    assert second.has_annotation("ENT_IOB") and second[0].ent_iob_ == "O"  # not missing, which would teach nothing


@pytest.mark.slow
def test_spacy_trains_on_the_files(tmp_path: Path) -> None:
    """By its own reader of corpora, which takes a folder of files, and its own component."""
    import spacy
    from spacy.training import Corpus

    for number, data in enumerate(docbin.write([ROW, PLAIN, ROW], docs_a_file=2)):
        (tmp_path / f"{number}.spacy").write_bytes(data)
    nlp = spacy.blank("es")
    nlp.add_pipe("ner")
    examples = list(Corpus(tmp_path)(nlp))
    assert len(examples) == 3
    nlp.initialize(lambda: examples)
    assert set(nlp.get_pipe("ner").labels) == {"PER", "LOC"}
    assert nlp.update(examples)["ner"] > 0


@pytest.mark.slow
def test_files_hold_so_many_docs_and_the_same_rows_give_the_same_bytes() -> None:
    from spacy.tokens import DocBin

    rows = [row(id=str(number)) for number in range(5)]
    files = list(docbin.write(rows, docs_a_file=2))
    assert [len(DocBin().from_bytes(data)) for data in files] == [2, 2, 1]
    assert files == list(docbin.write(rows, docs_a_file=2))
    assert [len(DocBin().from_bytes(data)) for data in docbin.write([])] == [0]
