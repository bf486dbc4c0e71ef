"""CoNLL-U with entities in MISC, and CoNLL-2012."""

from pathlib import Path

import pytest
from format_files import file_of
from settling import settled, settled_records

from xner_ray.data.spans import Span
from xner_ray.errors import InputError, Reason
from xner_ray.read.record import Stated
from xner_ray.read.records import read_records
from xner_ray.recipe.columns import Columns

CONLLU = """# newdoc id = d1
# sent_id = s1
# text = Ana Novak živi v Ljubljani.
1\tAna\tAna\tPROPN\tNpfsn\tCase=Nom\t3\tnsubj\t_\tNER=B-per
2\tNovak\tNovak\tPROPN\tNpmsn\t_\t1\tflat\t_\tNER=I-per
3\tživi\tživeti\tVERB\tVm\t_\t0\troot\t_\tNER=O
4-5\tvLjubljani\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
4\tv\tv\tADP\tSl\t_\t5\tcase\t_\tNER=O
5\tLjubljani\tLjubljana\tPROPN\tNp\t_\t3\tobl\t_\tNER=B-loc|SpaceAfter=No
5.1\tnič\t_\t_\t_\t_\t_\t_\t_\t_
6\t.\t.\tPUNCT\tZ\t_\t3\tpunct\t_\tNER=O

# sent_id = s2
1\t5 000\t5000\tNUM\tM\t_\t0\troot\t_\tNER=B-num
2\t#\t#\tSYM\tZ\t_\t1\tpunct\t_\t_
"""


def test_conllu(tmp_path: Path) -> None:
    file, found = settled(file_of(tmp_path, CONLLU, "conllu"))
    pairs = list(read_records(file))
    first, second = (record for _, record in pairs)
    assert found.said == ["tags in NER= of MISC"]
    assert first.tokens == ["Ana", "Novak", "živi", "v", "Ljubljani", "."]
    assert first.spans == [Span(0, 2, "per"), Span(4, 5, "loc")]
    assert (first.id, first.doc_id, first.text, first.line) == ("s1", "d1", "Ana Novak živi v Ljubljani.", 4)
    assert (second.tokens, second.spans, second.id, second.line) == (["5", "000", "#"], [Span(0, 2, "num")], "s2", 14)
    place, _ = pairs[1]
    assert [record for _, record in read_records(file, place)] == [second]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("NER=", "name=", ["tags in name= of MISC"]),
        ("NER=O|", "", ["tags in NER= of MISC"]),
        ("NER=B-", "NER=B_", None),
    ],
)
def test_conllu_other_keys_and_spellings(tmp_path: Path, old: str, new: str, said: list[str] | None) -> None:
    text = CONLLU.replace("NER=I-", "NER=I_") if "_" in new else CONLLU
    records, found = settled_records(file_of(tmp_path, text.replace(old, new), "conllu"))
    assert [record.spans for record in records] == [[Span(0, 2, "per"), Span(4, 5, "loc")], [Span(0, 2, "num")]]
    assert said is None or found == said


def test_conllu_without_o_and_with_bare_labels(tmp_path: Path) -> None:
    text = CONLLU.replace("NER=O", "_").replace("=B-", "=").replace("=I-", "=")
    records, said = settled_records(file_of(tmp_path, text, "conllu"))
    assert records[0].spans == [Span(0, 2, "per"), Span(4, 5, "loc")]
    assert said == ["tags in NER= of MISC", "scheme IO"]


def test_conllu_asks_between_two_keys(tmp_path: Path) -> None:
    text = CONLLU.replace("NER=B-per", "NER=B-per|fine=B-author").replace("NER=O", "NER=O|fine=O")
    with pytest.raises(InputError, match=r"\(NER: loc, num, per; fine: author\).*input.columns: {tags: NER}"):
        settled(file_of(tmp_path, text, "conllu"))
    records, _ = settled_records(file_of(tmp_path, text, "conllu", columns=Columns(tags="fine")))
    assert records[0].spans == [Span(0, 1, "author")]


def test_conllu_without_tags_and_with_damage(tmp_path: Path) -> None:
    bare = "1\tAna\t_\t_\t_\t_\t_\t_\t_\tEntity=(e1-person\n2\tx\t_\t_\t_\t_\t_\t_\t_\tEntity=e1)\n"
    with pytest.raises(InputError, match=r"MISC has Entity=, brackets of coreference.*input.columns: {tags: NER}"):
        settled(file_of(tmp_path, bare, "conllu"))
    with pytest.raises(InputError, match=r"MISC has no key 'NE'; its keys are NER, SpaceAfter; .*{tags: NER}"):
        settled(file_of(tmp_path, CONLLU, "conllu", columns=Columns(tags="NE")))
    with pytest.raises(InputError, match=r"input.scheme: io does not fit NER=: most tags have a prefix"):
        settled(file_of(tmp_path, CONLLU, "conllu", stated=Stated("io")))
    records, _ = settled_records(file_of(tmp_path, CONLLU.replace("PUNCT\tZ", "PUNCT"), "conllu"))
    assert [record.reason for record in records] == [Reason.MALFORMED, None]
    assert records[0].detail.startswith("line 11 is not a number and nine more columns between tabs, but 9: '6")


CONLL2012 = """#begin document (bc/cctv/00/cctv_0000); part 000
bc/cctv/00/cctv_0000   0   0       Nora   NNP    (TOP(S(NP*      -    -   -   Speaker#1   (PERSON*      *   (1
bc/cctv/00/cctv_0000   0   1       Falk   NNP            *)      -    -   -   Speaker#1          *)     *   1)
bc/cctv/00/cctv_0000   0   2         of    IN            *       -    -   -   Speaker#1       *         *   -
bc/cctv/00/cctv_0000   0   3       Oslo   NNP            *))     -    -   -   Speaker#1     (GPE)       *   -

bc/cctv/00/cctv_0000   0   0         三    CD            *      -    -   -   Speaker#1  (ORG(CARDINAL)     *   -
bc/cctv/00/cctv_0000   0   1       Co.   NNP            *      -    -   -   Speaker#1     *)       *   -

#end document
#begin document (bc/cctv/00/cctv_0000); part 001
x 1 0 Yes UH * - - - A * -
#end document
"""


def test_conll2012(tmp_path: Path) -> None:
    file, found = settled(file_of(tmp_path, CONLL2012.replace("x 1", "x   1"), "conll2012"))
    pairs = list(read_records(file))
    records = [record for _, record in pairs]
    assert found.said == []
    assert [r.tokens for r in records] == [["Nora", "Falk", "of", "Oslo"], ["三", "Co."], ["Yes"]]
    assert [r.spans for r in records] == [
        [Span(0, 2, "PERSON"), Span(3, 4, "GPE")],
        [Span(0, 1, "CARDINAL"), Span(0, 2, "ORG")],
        [],
    ]
    assert [(r.doc_id, r.line) for r in records] == [
        ("bc/cctv/00/cctv_0000#000", 2),
        ("bc/cctv/00/cctv_0000#000", 7),
        ("bc/cctv/00/cctv_0000#001", 12),
    ]
    for number, (place, _) in enumerate(pairs):
        assert place is not None
        assert [record for _, record in read_records(file, place)] == records[number:]


@pytest.mark.parametrize(
    ("old", "new", "reason", "detail"),
    [
        ("(GPE)", "(GPE", Reason.ILLEGAL_TAG, "line 5: (GPE is not closed"),
        ("(GPE)", "*)", Reason.ILLEGAL_TAG, "line 5: '*)' closes a bracket that none opens"),
        ("(GPE)", "B-GPE", Reason.ILLEGAL_TAG, "line 5: 'B-GPE'; allowed: *, (X*, *) and (X)"),
        ("of    IN", "of", Reason.MALFORMED, "line 4 has 12 columns, the first line of its sentence has 13"),
    ],
)
def test_conll2012_damage_is_one_row(tmp_path: Path, old: str, new: str, reason: Reason, detail: str) -> None:
    records, _ = settled_records(file_of(tmp_path, CONLL2012.replace(old, new), "conll2012"))
    assert [record.reason for record in records] == [reason, None, None]
    assert records[0].detail.startswith(detail)


def test_conll2012_refuses_what_it_cannot_obey(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"input.scheme: conll2012 has brackets"):
        settled(file_of(tmp_path, CONLL2012, "conll2012", stated=Stated("io")))
    skeleton = CONLL2012.replace("Nora", "[WORD]").replace("三", "[WORD]")
    with pytest.raises(InputError, match="the words are left out"):
        settled(file_of(tmp_path, skeleton, "conll2012"))
    with pytest.raises(InputError, match=r"fewer than 12 columns.* set input.format: conll"):
        settled(file_of(tmp_path, "Nora B-PER\n", "conll2012"))
    with pytest.raises(InputError, match=r"input.columns.tags is 'ner'; in conll2012 a number from 1"):
        settled(file_of(tmp_path, CONLL2012, "conll2012", columns=Columns(tags="ner")))
    columns = Columns(tokens="2", tags="3")
    records, said = settled_records(file_of(tmp_path, "1 Nora (PER*\n2 Falk *)\n", "conll2012", columns=columns))
    assert (records[0].tokens, records[0].spans) == (["Nora", "Falk"], [Span(0, 2, "PER")])
    assert said == ["words in column 2", "entities in column 3"]
