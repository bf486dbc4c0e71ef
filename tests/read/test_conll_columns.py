"""Columns of files with a word a line: which hold words and tags is found out, or asked."""

import json
from pathlib import Path

import pytest
from format_files import file_of
from settling import settled, settled_records

from xner_ray.data.spans import Span
from xner_ray.data.tag_styles import TagStyle
from xner_ray.errors import InputError, Reason
from xner_ray.read.record import File, Reading, Stated
from xner_ray.recipe.columns import Columns


def conll(tmp_path: Path, content: str, columns: dict[str, str] | None = None, **options) -> File:
    return file_of(tmp_path, content, "conll", columns=Columns(**(columns or {})), **options)


def entities(file: File) -> list[list[tuple[str, str]]]:
    """Return (words, label) of each entity, by sentences; every row is good."""
    records, _ = settled_records(file)
    assert [record.detail for record in records if record.reason] == []
    return [[(" ".join(r.tokens[s.start : s.end]), s.label) for s in r.spans] for r in records]


NUMBERED = "1 Nora NNP I-NP B-PER\n2 Falk NNP I-NP I-PER\n3 slept VBD I-VP O\n\n1 Oslo NNP I-NP B-LOC\n2 . . O O\n"


def test_a_column_that_counts_the_words_is_none_of_words(tmp_path: Path) -> None:
    file, found = settled(conll(tmp_path, NUMBERED))
    assert found.said == ["words in column 2, tags in column 5 of 5", "column 1 counts the words"]
    assert entities(file) == [[("Nora Falk", "PER")], [("Oslo", "LOC")]]
    assert Reading.from_json(json.loads(json.dumps(found.reading.to_json()))) == found.reading


def test_numbers_from_0_and_one_broken_sentence_of_many(tmp_path: Path) -> None:
    """WikiNEuRal."""
    good = "0\tNora\tB-PER\n1\tFalk\tI-PER\n2\tslept\tO\n\n"
    records, said = settled_records(conll(tmp_path, good * 30 + "7\tOslo\tB-LOC\n\n"))
    assert [record.tokens for record in records] == [["Nora", "Falk", "slept"]] * 30 + [["Oslo"]]
    assert "column 1 counts the words" in said


def test_words_that_are_numbers_stay_words(tmp_path: Path) -> None:
    assert entities(conll(tmp_path, "1 B-CARDINAL\n2 I-CARDINAL\n\n1 O\n")) == [[("1 2", "CARDINAL")], []]


def test_numbered_lines_with_ranges_and_empty_nodes(tmp_path: Path) -> None:
    text = "1\tVamos\tO\n2-3\tda\t_\n2\tde\tO\n3\tRoma\tB-LOC\n3.1\tnada\t_\n4\t.\tO\n\n1\tSim\tO\n2\t.\tO\n"
    records, _ = settled_records(conll(tmp_path, text))
    assert [record.tokens for record in records] == [["Vamos", "de", "Roma", "."], ["Sim", "."]]
    assert records[0].spans == [Span(2, 3, "LOC")]


@pytest.mark.parametrize(
    "rows",
    [
        "Oslo\tB-ORG\tB-LOC\nTimes\tI-ORG\tO\n",
        "1\tOslo\tB-ORG\tB-LOC\n2\tTimes\tI-ORG\tO\n\n1\tx\tO\tO\n",
        "Oslo ORG LOC\nTimes ORG O\nis O O\nbig O O\n",
        "Oslo S-ORG_x S-LOC_y\nTimes O O\n",
    ],
)
def test_two_columns_of_entities_are_asked_for(tmp_path: Path, rows: str) -> None:
    with pytest.raises(InputError, match=r"several columns hold tags of entities \(column .*LOC.*input.columns: ") as e:
        settled(conll(tmp_path, rows))
    key = json.loads(
        "{" + str(e.value).rpartition("input.columns: {")[2].replace("tokens", '"tokens"').replace("tags", '"tags"')
    )
    first = entities(conll(tmp_path, rows, key))
    assert first[0][0][0] in ("Oslo Times", "Oslo")
    assert first[0][0][1].startswith("ORG")
    inner = entities(conll(tmp_path, rows, {"tags": key["tags"] + 1}))
    assert inner[0][0][0] == "Oslo"
    assert inner[0][0][1].startswith("LOC")


def test_an_inner_level_without_entities_and_a_copy_are_not_asked_for(tmp_path: Path) -> None:
    records, said = settled_records(conll(tmp_path, "Oslo\tB-LOC\tO\nbig\tO\tO\n\nNora\tB-PER\tO\n"))
    assert [record.spans for record in records] == [[Span(0, 1, "LOC")], [Span(0, 1, "PER")]]
    assert said == ["words in column 1, tags in column 2 of 3", "column 3 holds no entity"]
    assert entities(conll(tmp_path, "Oslo B-LOC B-LOC\nis O O\n")) == [[("Oslo", "LOC")]]


def test_chunks_and_parts_of_speech_are_no_entities(tmp_path: Path) -> None:
    text = "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\n"
    text += "German JJ B-NP B-MISC\ncall NN I-NP O\n. . O O\n"
    file, found = settled(conll(tmp_path, text))
    assert (found.reading, found.said) == (Reading(), [])
    assert entities(file) == [[("EU", "ORG"), ("German", "MISC")]]
    unlabelled = "It PRP B-NP O\nrains VBZ B-VP O\n. . O O\n"
    assert entities(conll(tmp_path, unlabelled)) == [[]]
    chunks = "He PRP B-NP\nreckons VBZ B-VP\nthe DT B-NP\ndeficit NN I-NP\n. . O\n"
    records, said = settled_records(conll(tmp_path, chunks))
    assert [span.label for span in records[0].spans] == ["NP", "VP", "NP"]
    assert said == ["the labels are those of chunks"]


def test_tags_before_the_words(tmp_path: Path) -> None:
    """The MIT movie and restaurant corpora."""
    text = "O\twhat\nO\tdid\nB-ACTOR\tEmma\nI-ACTOR\tStone\nO\tplay\n\nB-TITLE\tAlien\nO\tplease\n"
    assert entities(conll(tmp_path, text)) == [[("Emma Stone", "ACTOR")], [("Alien", "TITLE")]]


def test_a_column_of_document_names(tmp_path: Path) -> None:
    text = "".join(f"doc{n}\t{word}\t{tag}\n" + end for n, word, tag, end in [
        (1, "Nora", "B-PER", ""), (1, "slept", "O", "\n"), (2, "Oslo", "B-LOC", ""), (2, "too", "O", "\n"),
    ])  # fmt: skip
    assert entities(conll(tmp_path, text)) == [[("Nora", "PER")], [("Oslo", "LOC")]]


@pytest.mark.parametrize("prefix", ["en", "zh-min-nan", "simple", "be-x-old"])
def test_a_prefix_of_every_word(tmp_path: Path, prefix: str) -> None:
    text = f"{prefix}:Nora\tB-PER\n{prefix}:Falk\tI-PER\n{prefix}::\tO\n\n{prefix}:en:x\tO\n"
    file, found = settled(conll(tmp_path, text))
    assert found.said == [f"{prefix}: before every word is left out"]
    records, _ = settled_records(file)
    assert [record.tokens for record in records] == [["Nora", "Falk", ":"], ["en:x"]]


def test_prefixes_of_several_languages_and_of_some_words(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="words begin with en:, sw:; a file holds one language"):
        settled(conll(tmp_path, "en:a\tO\n\nsw:b\tB-PER\n"))
    assert settled(conll(tmp_path, "en:a O\nb O\n\nc O\n"))[1].reading.prefix == ""


def test_the_recipe_names_columns(tmp_path: Path) -> None:
    text = "1\tNora\tNNP\tB-PER\tB-X\n2\tslept\tVBD\tO\tO\n"
    assert entities(conll(tmp_path, text, {"tokens": "2", "tags": "5"})) == [[("Nora", "X")]]
    named = "no\tparola\tpos\tetichetta\taltra\n" + text
    assert entities(conll(tmp_path, named, {"tokens": "parola", "tags": "etichetta"})) == [[("Nora", "PER")]]
    for columns, problem in [
        ({"tags": "6"}, "input.columns.tags is '6', but its lines have 5 columns: 1 to 5"),
        ({"tags": "ner"}, r"input.columns.tags is 'ner', .*line 1 names no columns"),
        ({"tokens": "2", "tags": "2"}, "column 2 cannot be both tokens and tags"),
        ({"tokens": "2", "tags": "1"}, r"column 1 holds no tags of entities: 1, 2; name another in input.columns.tags"),
    ]:
        with pytest.raises(InputError, match=problem):
            settled(conll(tmp_path, text, columns))


def test_a_header_is_no_sentence(tmp_path: Path) -> None:
    for header in ("Word\tPOS\tTag\n", "token\tpos\tner_tags\n\n"):
        records, said = settled_records(
            conll(tmp_path, f"{header}Nora\tNNP\tB-PER\nslept\tVBD\tO\n\nOslo\tNNP\tB-LOC\n")
        )
        assert [(r.tokens, r.line) for r in records][1][0] == ["Oslo"]
        assert records[0].tokens == ["Nora", "slept"]
        assert records[0].line == header.count("\n") + 1
        assert said == ["line 1 names the columns"]
    file = conll(tmp_path, "ner word\nB-PER Nora\nO slept\n")
    assert entities(file) == [[("Nora", "PER")]]


def test_sentences_of_another_width(tmp_path: Path) -> None:
    text = "Nora\tNNP\tB-PER\n\nOslo\tNNP\tB-LOC\n\nthe\tB-ORG\tx\tO\n\nBergen\tB-LOC\n"
    file, found = settled(conll(tmp_path, text, {"tags": "3", "tokens": "1"}))
    assert found.said[0] == "2 sentences of 3 columns; rejected: 1 of 2, 1 of 4"
    records, _ = settled_records(file)
    assert [record.reason for record in records] == [None, None, Reason.MALFORMED, Reason.MALFORMED]
    assert records[3].detail == "line 7 has 2 columns, the file's lines have 3: 'Bergen\\tB-LOC'"


def test_widths_that_are_read_alike_are_read(tmp_path: Path) -> None:
    """Two corpora in one file: words first, tags last."""
    file, found = settled(conll(tmp_path, "Nora NNP B-PER\nslept VBD O\n\nOslo B-LOC\nslept O\n"))
    assert found.reading == Reading()
    assert entities(file) == [[("Nora", "PER")], [("Oslo", "LOC")]]


def test_no_column_of_tags(tmp_path: Path) -> None:
    for text, hint in [
        ("Nora NNP\nslept VBD\n", r"column 2: NNP, VBD\); name it, as in input.columns: {tokens: 1, tags: 2}"),
        ("Nora 1\nslept 0\nin 0\nOslo 5\n", r"input.labels.names: \[O, B-PER, I-PER\]"),
        ("d 0 0 Nora NNP (TOP* - - - A (PERSON) -\nd 0 1 x NN *) - - - A * -\n", "set input.format: conll2012"),
    ]:
        with pytest.raises(InputError, match=f"no column holds tags of entities .*{hint}"):
            settled(conll(tmp_path, text))


def test_tags_that_are_numbers_with_names(tmp_path: Path) -> None:
    from xner_ray.read.record import Stated

    stated = Stated(names=("O", "B-PER", "I-PER"))
    records, _ = settled_records(conll(tmp_path, "Nora 1\nFalk 2\nslept 0\n\nx 3\n", stated=stated))
    assert records[0].spans == [Span(0, 2, "PER")]
    assert (records[1].reason, records[1].detail) == (
        Reason.ILLEGAL_TAG,
        "line 5: illegal tag '3'; input.labels.names has 0 to 2",
    )
    with pytest.raises(InputError, match=r"input.labels.names is for tags that are numbers"):
        settled(conll(tmp_path, "Nora B-PER\n", stated=stated))


def test_one_column_and_nothing_at_all(tmp_path: Path) -> None:
    assert settled(conll(tmp_path, "a\nb\n\nc\n"))[1].reading == Reading()
    assert settled(conll(tmp_path, "\n"))[1].reading == Reading()


def test_old_readings_and_styles_stay(tmp_path: Path) -> None:
    assert settled(conll(tmp_path, "a B-PER\nb O\n\nc I-PER\n"))[1].reading == Reading()
    assert settled(conll(tmp_path, "a I-PER\nb O\n"))[1].reading == Reading(style=TagStyle("iob1"))


def test_uner_refuses_columns_and_a_scheme_of_others(tmp_path: Path) -> None:
    for key, options in (("columns.tags", {"columns": Columns(tags=4)}), ("scheme", {"stated": Stated(scheme="io")})):
        with pytest.raises(InputError, match=rf"input\.{key}: UNER has .* set input.format: conll"):
            settled(file_of(tmp_path, "1\tOslo\tB-LOC\t-\n\n", "uner", **options))
