import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from xner_ray.data.spans import Span, label_list, outermost, overlaps, spans_to_tags, split_tag, tags_to_spans

LABELS = ["PER", "LOC", "ORG", "X-Y"]


@st.composite
def span_lists(draw: st.DrawFn) -> tuple[list[Span], int]:
    spans, position = [], 0
    for _ in range(draw(st.integers(0, 5))):
        start = position + draw(st.integers(0, 2))
        position = start + draw(st.integers(1, 3))
        spans.append(Span(start, position, draw(st.sampled_from(LABELS))))
    return spans, position + draw(st.integers(0, 2))


@given(span_lists())
def test_tags_round_trip(case: tuple[list[Span], int]) -> None:
    spans, n_words = case
    assert tags_to_spans(spans_to_tags(spans, n_words)) == (spans, 0)


@given(span_lists())
def test_written_tags_mean_the_same_to_seqeval(case: tuple[list[Span], int]) -> None:
    spans, n_words = case
    found = get_entities(spans_to_tags(spans, n_words))
    assert [(label, start, end + 1) for label, start, end in found] == [(s.label, s.start, s.end) for s in spans]


@given(st.lists(st.sampled_from(["O", *(f"{p}-{x}" for p in "BIESLU" for x in ("A", "B"))])))
def test_any_legal_tags_give_spans_without_overlap(tags: list[str]) -> None:
    spans, _ = tags_to_spans(tags)
    assert tags_to_spans(spans_to_tags(spans, len(tags))) == (spans, 0)
    inside = {word for span in spans for word in range(span.start, span.end)}
    assert inside == {word for word, tag in enumerate(tags) if tag != "O"}


@pytest.mark.parametrize(
    ("tags", "expected", "repaired"),
    [
        ("I-PER I-PER O I-LOC", [(0, 2, "PER"), (3, 4, "LOC")], 2),  # IOB1
        ("I-PER B-PER", [(0, 1, "PER"), (1, 2, "PER")], 1),  # IOB1: B only between neighbours
        ("B-PER I-LOC", [(0, 1, "PER"), (1, 2, "LOC")], 1),
        ("S-PER B-LOC I-LOC E-LOC", [(0, 1, "PER"), (1, 4, "LOC")], 0),  # IOBES
        ("U-PER B-LOC L-LOC U-LOC", [(0, 1, "PER"), (1, 3, "LOC"), (3, 4, "LOC")], 0),  # BILOU
        ("E-PER", [(0, 1, "PER")], 1),
        ("B-PER E-PER I-PER", [(0, 2, "PER"), (2, 3, "PER")], 1),
    ],
)
def test_tags_to_spans_reads_every_scheme(tags: str, expected: list[tuple[int, int, str]], repaired: int) -> None:
    assert tags_to_spans(tags.split()) == ([Span(*span) for span in expected], repaired)


@pytest.mark.parametrize("tag", ["", "B", "B-", "X-PER", "PER", "b-PER", "B- PER", "BI-PER", "-PER"])
def test_split_tag_refuses(tag: str) -> None:
    with pytest.raises(ValueError, match="illegal tag"):
        split_tag(tag)


@pytest.mark.parametrize("spans", [[Span(0, 2, "A"), Span(1, 3, "A")], [Span(2, 2, "A")], [Span(2, 4, "A")]])
def test_spans_to_tags_refuses_what_iob2_cannot_say(spans: list[Span]) -> None:
    with pytest.raises(ValueError, match="overlaps its neighbour or leaves"):
        spans_to_tags(spans, 3)


def test_swapped_entities_of_one_type_stay_two() -> None:
    """Peer defect A3.1: two persons whose order is swapped in the target were merged into invalid IOB2."""
    assert spans_to_tags([Span(3, 5, "PER"), Span(0, 2, "PER")], 5) == ["B-PER", "I-PER", "O", "B-PER", "I-PER"]


@given(st.lists(st.builds(lambda a, n: Span(a, a + n, "X"), st.integers(0, 8), st.integers(1, 4)), max_size=6))
def test_outermost_parts_the_spans(spans: list[Span]) -> None:
    kept, nested = outermost(spans)
    assert sorted(kept + nested) == sorted(spans)
    assert not any(overlaps(a, b) for i, a in enumerate(kept) for b in kept[i + 1 :])
    assert all(any(overlaps(span, other) and len(other) >= len(span) for other in kept) for span in nested)


def test_label_list_has_every_pair() -> None:
    assert label_list(["PER", "LOC"]) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
