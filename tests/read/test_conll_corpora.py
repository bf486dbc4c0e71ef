"""Files with a word a line in the shapes of real corpora, 40 sentences each, read without keys."""

from collections.abc import Callable
from pathlib import Path

import pytest
from format_files import file_of
from settling import settled_records

from xner_ray.data.spans import spans_to_tags, tags_to_spans

_SENTENCES = [
    "Nora/B-PER Falk/I-PER moved/O to/O Oslo/B-LOC ./O",
    "नोरा/B-PER कल/O दिल्ली/B-LOC गई/O ।/O",
    "她/O 在/O 北京/B-LOC 大学/I-LOC 工作/O 。/O",
    "غادرت/O ليلى/B-PER بيروت/B-LOC ./O",
    '"/O 😀/O 5,000/O #/O of/O C++/B-PROD "/O ?/O',
    "L'/O Union/B-ORG européenne/I-ORG —/O 1/O %/O",
    "o/O viu/O ;/O -/O O/O _/O 0/O",
    "İstanbul'da/B-LOC Ümit/B-PER ağaçlı/O ./O",
]
SENTENCES = [[tuple(word.rsplit("/", 1)) for word in text.split(" ")] for text in _SENTENCES] * 5
Row = Callable[[int, int, str, str], str]  # number of the sentence, of the word from 0, word, tag -> line


def _bmes(tags: list[str]) -> list[str]:
    spans, _ = tags_to_spans(tags)
    made = ["O"] * len(tags)
    for span in spans:
        made[span.start : span.end] = [f"M-{span.label}"] * len(span)
        made[span.end - 1], made[span.start] = f"E-{span.label}", f"B-{span.label}"
        if len(span) == 1:
            made[span.start] = f"S-{span.label}"
    return made


def _iob1(tags: list[str]) -> list[str]:
    spans, _ = tags_to_spans(tags)
    touching = {one.end for one in spans for other in spans if one.end == other.start and one.label == other.label}
    return [tag if at in touching else tag.replace("B-", "I-") for at, tag in enumerate(tags)]


SHAPES: dict[str, tuple[str, str, Callable[[int], str], Row, Callable[[list[str]], list[str]]]] = {
    "CoNLL-2003": ("conll", "-DOCSTART- -X- -X- O\n\n", lambda n: "", lambda n, i, w, t: f"{w} NN B-NP {t}", list),
    "CoNLL-2003, IOB1": ("conll", "", lambda n: "", lambda n, i, w, t: f"{w} NN I-NP {t}", _iob1),
    "WikiNEuRal": ("conll", "", lambda n: "", lambda n, i, w, t: f"{i}\t{w}\t{t}", list),
    "MultiCoNER": ("conll", "\n", lambda n: f"# id {n:04x}-7\tdomain=xx\n", lambda n, i, w, t: f"{w} _ _ {t}", list),
    "WikiANN": ("conll", "", lambda n: "", lambda n, i, w, t: f"xx:{w}\t{t}", list),
    "GermEval": (
        "conll",
        "",
        lambda n: "#\thttp://a.b/c\t[2009-10-17]\n",
        lambda n, i, w, t: f"{i + 1}\t{w}\t{t}\tO",
        list,
    ),
    "HIPE": (
        "conll",
        "TOKEN\tNE-COARSE-LIT\tNEL-LIT\tMISC\n",
        lambda n: "",
        lambda n, i, w, t: f"{w}\t{t}\t_\t_",
        list,
    ),
    "header": ("conll", "word\ttag\n", lambda n: "", lambda n, i, w, t: f"{w}\t{t}", list),
    "BMES": ("conll", "", lambda n: "", lambda n, i, w, t: f"{w} {t}", _bmes),
    "tags first": ("conll", "", lambda n: "", lambda n, i, w, t: f"{t}\t{w}", list),
    "B_PER": ("conll", "", lambda n: "", lambda n, i, w, t: f"{w}\t{t.replace('-', '_')}", list),
    "PER-B": ("conll", "", lambda n: "", lambda n, i, w, t: f"{w}\t{'-'.join(t.split('-')[::-1])}", list),
    "o": ("conll", "", lambda n: "", lambda n, i, w, t: f"{w}\t{t.replace('O', 'o') if t == 'O' else t}", list),
    "CoNLL-U": (
        "conllu",
        "# newdoc id = d\n",
        lambda n: f"# sent_id = {n}\n",
        lambda n, i, w, t: f"{i + 1}\t{w}\t_\tX\t_\t_\t0\troot\t_\tSpaceAfter=No|NER={t}",
        list,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_forty_sentences(tmp_path: Path, shape: str) -> None:
    format, head, comment, row, respell = SHAPES[shape]
    blocks = []
    for number, sentence in enumerate(SENTENCES):
        tags = respell([tag for _, tag in sentence])
        lines = [row(number, at, word, tag) for at, ((word, _), tag) in enumerate(zip(sentence, tags, strict=True))]
        blocks.append(comment(number) + "\n".join(lines) + "\n")
    records, said = settled_records(file_of(tmp_path, head + "\n".join(blocks), format))
    assert [record.detail for record in records if record.reason] == []
    assert [record.tokens for record in records] == [[word for word, _ in sentence] for sentence in SENTENCES], said
    found = [spans_to_tags(record.spans or [], len(record.tokens or [])) for record in records]
    assert found == [[tag for _, tag in sentence] for sentence in SENTENCES]
    assert {record.repaired for record in records} == {0}
