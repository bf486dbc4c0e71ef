"""Spans and labels of tag/hf.py: every notation of tags, on models that map a letter to a known row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_encoders  # noqa: F401, sets torch's threads
from tiny_taggers import IOB2, XLMR_CONLL03, table_model, tagger

from xner_ray.data.spans import Span
from xner_ray.match import candidates, scores
from xner_ray.match.batch import EntityBatch
from xner_ray.recipe.sections import Tag
from xner_ray.tag.base import Tagger
from xner_ray.tag.hf import HfTagger, check, resolve


def spans(found: HfTagger, *sentences: str) -> list[list[Span]]:
    words = [sentence.split() for sentence in sentences]
    return found.tag([(w, [True] * len(w)) for w in words])


@pytest.fixture
def no_b(tmp_path: Path) -> HfTagger:
    """XLM-R-CoNLL03's tags: p is I-PER, l I-LOC, b B-LOC, g is O before the masses of LOC are added."""
    table = {
        "p": {"I-PER": 0.9, "I-LOC": 0.02},
        "l": {"I-LOC": 0.8, "B-LOC": 0.05, "I-PER": 0.1},
        "b": {"B-LOC": 0.7, "I-LOC": 0.2},
        "g": {"B-LOC": 0.3, "I-LOC": 0.3},
    }
    return tagger(table_model(tmp_path / "no_b", XLMR_CONLL03, table))


def test_spans_and_their_scores(tmp_path: Path) -> None:
    table = {
        "p": {"B-PER": 0.7003, "I-PER": 0.1},
        "i": {"I-PER": 0.9, "B-PER": 0.05},
        "l": {"B-LOC": 0.51234},
        "e": {"B-PER": 0.25, "I-PER": 0.25, "I-LOC": 0.25},  # equal tags: O, the first column
    }
    found: Tagger = tagger(table_model(tmp_path, IOB2, table))
    words = list("opiiolpiepx")
    expected = [Span(1, 4, "PER", 0.8334), Span(5, 6, "LOC", 0.5123), Span(6, 8, "PER", 0.8002)]
    assert found.tag([(words, [True] * 11), (["i"], [False])]) == [
        [*expected, Span(9, 10, "PER", 0.7003)],
        [Span(0, 1, "PER", 0.9)],
    ]


def test_a_name_does_not_fall_apart(tmp_path: Path) -> None:
    table = {
        "a": {"B-PER": 0.5, "B-LOC": 0.4, "I-LOC": 0.1},
        "b": {"I-LOC": 0.6, "I-PER": 0.35, "B-LOC": 0.05},
    }
    found = tagger(table_model(tmp_path, IOB2, table)).tag([(list("ab"), [True] * 2)])
    assert found == [[Span(0, 2, "LOC", 0.5)]]  # 0.4 * 0.6 is more than 0.5 * 0.35


def test_an_inside_tag_of_an_iob2_model_stays_inside(tmp_path: Path) -> None:
    found = tagger(table_model(tmp_path, IOB2, {"i": {"I-PER": 0.9, "B-PER": 0.05}}))
    np.testing.assert_allclose(found.probabilities([["o", "i"]])[0][1], [0.05, 0, 0, 0.05, 0.9], atol=6e-5)


def test_a_model_without_begin_tags_begins_entities(no_b: HfTagger) -> None:
    assert no_b.labels == ("LOC", "MISC", "ORG", "PER")
    rows = no_b.probabilities([list("oppop")])[0]
    begin, inside = 7, 8  # of PER
    np.testing.assert_allclose(rows[:, begin], [0, 0.9, 0, 0, 0.9], atol=1e-4)
    np.testing.assert_allclose(rows[:, inside], [0, 0, 0.9, 0, 0], atol=1e-4)
    np.testing.assert_allclose(rows[1:3, 1], 0.02, atol=1e-4)  # of LOC: no word before is a place
    assert spans(no_b, "o p p o p") == [[Span(1, 3, "PER", 0.9), Span(4, 5, "PER", 0.9)]]


def test_the_tags_of_such_a_model_are_iob1(no_b: HfTagger) -> None:
    """B-LOC is there, but it only parts neighbours; places begin with I-LOC too."""
    found = [[(s.start, s.end, s.label) for s in one] for one in spans(no_b, "l l", "l b l", "p l p", "o g l", "g g")]
    assert found == [
        [(0, 2, "LOC")],
        [(0, 1, "LOC"), (1, 3, "LOC")],
        [(0, 1, "PER"), (1, 2, "LOC"), (2, 3, "PER")],
        [(1, 3, "LOC")],  # the g is a place only with both masses, and so the l after it goes on
        [(0, 1, "LOC")],  # the second g is none: half of its mass says that it goes on
    ]
    rows = no_b.probabilities([list("ll")])[0]
    np.testing.assert_allclose(rows[:, 1:3], [[0.85, 0], [0.05, 0.8]], atol=1e-4)


def test_the_tagger_score_finds_the_name_by_such_a_model(no_b: HfTagger) -> None:
    batch = EntityBatch(n_source=[1], n_target=[4], row=[0], start=[0], end=[1])
    found = candidates.ngrams(batch)
    rows = no_b.probabilities([list("oppo")])[0]
    values = scores.tagger(batch, found, rows, np.array([no_b.labels.index("PER")]))
    best = int(values.argmax())
    assert (found.start[best], found.end[best]) == (1, 3)
    assert values[best] == pytest.approx(0.9 * 1.15, abs=1e-3)


def test_probabilities_never_exceed_one(no_b: HfTagger) -> None:
    """Two halves may both have been rounded up."""
    parts = np.array([[0, 5001, 5000, 0, 0, 0, 0, 0, 0]])
    no_b._begin(parts, np.array([0, len(parts)]))
    assert parts.tolist() == [[0, 10_000, 0, 0, 0, 0, 0, 0, 0]]


def test_plain_labels_are_inside_tags(tmp_path: Path) -> None:
    found = tagger(table_model(tmp_path, ["PER", "O", "ORG"], {"p": {"PER": 0.9}, "q": {"ORG": 0.8}}))
    assert spans(found, "o p p q o") == [[Span(1, 3, "PER", 0.9), Span(3, 4, "ORG", 0.8)]]
    rows = found.probabilities([list("ppq")])[0]
    np.testing.assert_allclose(rows[:, 3:], [[0.9, 0], [0, 0.9], [0, 0]], atol=1e-4)


def test_a_plain_label_beside_iob2_tags_changes_only_itself(tmp_path: Path) -> None:
    found = tagger(table_model(tmp_path, [*IOB2, "X"], {"i": {"I-PER": 0.9}, "x": {"X": 0.8}}))
    assert found.labels == ("LOC", "PER", "X")
    rows = found.probabilities([list("oixx")])[0]
    np.testing.assert_allclose(rows[1], [0.1, 0, 0, 0, 0.9, 0, 0], atol=1e-4)
    np.testing.assert_allclose(rows[2:, 5:], [[0.8, 0], [0, 0.8]], atol=1e-4)


@pytest.mark.parametrize(("end", "single"), [("L", "U"), ("E", "S")])
def test_ends_are_inside_and_single_tags_begin(end: str, single: str, tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER", f"{end}-PER", f"{single}-PER"]
    table = {
        "b": {"B-PER": 0.5, f"{single}-PER": 0.25, "I-PER": 0.125},
        "e": {f"{end}-PER": 0.5, "I-PER": 0.25, "B-PER": 0.125},
        "u": {f"{single}-PER": 0.75},
    }
    found = tagger(table_model(tmp_path, names, table))
    rows = found.probabilities([list("beu")])[0]
    np.testing.assert_allclose(rows, [[0.125, 0.75, 0.125], [0.125, 0.125, 0.75], [0.25, 0.75, 0]], atol=1e-4)
    assert spans(found, "b e u u o") == [[Span(i, j, "PER", 0.75) for i, j in ((0, 2), (2, 3), (3, 4))]]


def test_labels_are_mapped_merged_and_dropped(tmp_path: Path) -> None:
    names = ["O", *(f"{prefix}-{label}" for label in ("GPE", "LOC", "MISC", "PERSON") for prefix in "BI")]
    table = {
        "g": {"B-GPE": 0.4, "B-LOC": 0.35},
        "m": {"B-MISC": 0.6, "I-MISC": 0.2, "I-LOC": 0.1},
        "p": {"B-PERSON": 0.9},
    }
    model = table_model(tmp_path, names, table)
    labels = {"GPE": "LOC", "MISC": None, "PERSON": "PER"}
    found = tagger(model, labels=labels)
    full = {"GPE": "LOC", "LOC": "LOC", "MISC": None, "PERSON": "PER"}
    assert (found.labels, check(Tag(engine="hf", model=model, labels=labels))) == (("LOC", "PER"), full)
    rows = found.probabilities([list("gmp")])[0]
    np.testing.assert_allclose(rows, [[0.25, 0.75, 0, 0, 0], [0.9, 0, 0.1, 0, 0], [0.1, 0, 0, 0.9, 0]], atol=1e-4)
    assert spans(found, "g m p") == [[Span(0, 1, "LOC", 0.75), Span(2, 3, "PER", 0.9)]]
    section, identities = resolve(Tag(engine="hf", model=model, labels=labels), "tag")
    assert (section.model_dump()["labels"], len(identities["model"])) == (full, 64)
    assert list(check(Tag(engine="hf", model=model))) == ["GPE", "LOC", "MISC", "PERSON"]
