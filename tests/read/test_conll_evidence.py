"""Evidence of files with a word a line: any cut of a file into pieces settles on the same reading."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from format_files import file_of
from hypothesis import given, settings
from hypothesis import strategies as st

from xner_ray.errors import InputError
from xner_ray.read.formats.lines import block_pieces
from xner_ray.read.record import START, File, Place
from xner_ray.read.records import FORMATS
from xner_ray.read.word_lines import evidence
from xner_ray.recipe.columns import Columns

_CELL = st.sampled_from(
    ["1", "2", "0", "O", "o", "B-PER", "I-PER", "B-LOC", "PER", "x", "en:x", "_", "NN", "B-NP", "."]
)
_FIXED = [
    "Nora\tB-PER\nFalk\tI-PER\nslept\tO",
    "1\tNora\tB-PER\n2\tslept\tO",
    "# id x\nOslo\tI-LOC",
    "en:a\tO",
    "a b\tO",
]


@st.composite
def _blocks(draw: st.DrawFn) -> list[str]:
    width = draw(st.integers(1, 4))
    row = st.lists(_CELL, min_size=width, max_size=width).map("\t".join)
    odd = st.lists(_CELL, min_size=1, max_size=5).map(" ".join)
    block = st.one_of(st.lists(row, min_size=1, max_size=5), st.lists(odd, min_size=1, max_size=3)).map("\n".join)
    return draw(st.lists(st.one_of(block, block, st.sampled_from(_FIXED)), min_size=1, max_size=12))


def outcome(file: File, cuts: Sequence[int], nested: bool) -> str:
    """Return what evidence of pieces settles on, or its message; nested: the last two are merged first."""
    format = FORMATS[file.format]
    bounds = [0, *cuts, None]
    pieces = []
    for start, stop in pairwise(bounds):
        found = format.evidence(file)
        for raw in format.raws(file, START if not start else Place(start), stop):
            found.add(raw)
        pieces.append(found)
    if nested and len(pieces) > 2:
        pieces[-2].merge(pieces.pop())
    first, *others = pieces
    for other in others:
        first.merge(other)
    try:
        return repr(first.settle(file))
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("most", [4096, 3])
@settings(max_examples=120, deadline=None)
@given(blocks=_blocks(), shares=st.lists(st.floats(0, 1), max_size=5), stated=st.booleans(), nested=st.booleans())
def test_any_cut_settles_alike(
    tmp_path_factory: pytest.TempPathFactory,
    most: int,
    blocks: list[str],
    shares: list[float],
    stated: bool,
    nested: bool,
) -> None:
    columns = Columns(tags="2") if stated else Columns()
    content = "\n\n".join(blocks) + "\n"
    file = file_of(tmp_path_factory.mktemp("cut"), content, "conll", columns=columns)
    size = len(content.encode())
    cuts = block_pieces(file, sorted(int(share * size) for share in shares))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence, "MOST_VALUES", most)
        patch.setattr(evidence, "_MOST_WIDTHS", most)
        assert outcome(file, cuts, nested) == outcome(file, [], nested=False)


_MISC = st.sampled_from(["_", "NER=B-PER", "NER=I-PER", "name=O|NER=O", "name=B-ORG", "Entity=(e1", "SpaceAfter=No"])
_BRACKETS = st.sampled_from(["*", "(PERSON)", "(GPE*", "*)", "-", "(ORG"])


@st.composite
def _lines_of(draw: st.DrawFn, kind: str) -> list[str]:
    def block() -> str:
        cells = draw(st.lists(_MISC if kind == "conllu" else _BRACKETS, min_size=1, max_size=4))
        if kind == "conllu":
            rows = [f"{n}\tw\t_\tX\t_\t_\t0\troot\t_\t{cell}" for n, cell in enumerate(cells, start=1)]
        else:
            rows = [f"a/b 0 {n} w{n} NN *{' -' * draw(st.integers(3, 6))} {cell} -" for n, cell in enumerate(cells)]
        head = ["", "# sent_id = x\n", "1-2\tdu\n"] if kind == "conllu" else ["", "#begin document (a); part 000\n"]
        return draw(st.sampled_from(head)) + "\n".join(rows)

    return [block() for _ in range(draw(st.integers(1, 12)))]


@pytest.mark.parametrize("kind", ["conllu", "conll2012"])
@settings(max_examples=120, deadline=None)
@given(data=st.data(), shares=st.lists(st.floats(0, 1), max_size=5), stated=st.booleans(), nested=st.booleans())
def test_any_cut_of_other_corpora_settles_alike(
    tmp_path_factory: pytest.TempPathFactory,
    kind: str,
    data: st.DataObject,
    shares: list[float],
    stated: bool,
    nested: bool,
) -> None:
    content = "\n\n".join(data.draw(_lines_of(kind))) + "\n"
    tags = "NER" if kind == "conllu" else "11"
    file = file_of(tmp_path_factory.mktemp("cut"), content, kind, columns=Columns(tags=tags) if stated else Columns())
    size = len(content.encode())
    cuts = block_pieces(file, sorted(int(share * size) for share in shares))
    assert outcome(file, cuts, nested) == outcome(file, [], nested=False)


def test_more_values_than_tags_can_have_are_not_kept(tmp_path: Path) -> None:
    file = file_of(tmp_path, "".join(f"w{n}\tB-PER\n\n" for n in range(5000)), "conll")
    found = FORMATS["conll"].evidence(file)
    for raw in FORMATS["conll"].raws(file, START, None):
        found.add(raw)
    words, tags = found.found.shapes[2].columns
    assert (words.many, len(words.values), tags.values) == (True, 0, {"B-PER": 5000})


def test_text_is_no_file_with_a_word_a_line(tmp_path: Path) -> None:
    file = file_of(tmp_path, "\n\n".join("w " * n for n in range(1, 80)), "conll")
    assert "more than 64 different widths" in outcome(file, [], nested=False)
