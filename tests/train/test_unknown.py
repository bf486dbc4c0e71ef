"""What is not known teaches nothing: words of missing entities, and of masked labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from students import row, run, student, training
from tiny_encoders import tiny

from xner_ray.data.links import METHODS
from xner_ray.errors import InputError, Loss
from xner_ray.train.recipe import Training
from xner_ray.train.sentences import Tally, unknown_words
from xner_ray.train.sources import load
from xner_ray.train.student import read
from xner_ray.train.windows import encode, goal

WORDS = ["Ku", "Roma", "ya", "Lea", "ndi", "mu"]


def _links(*pairs: tuple[int, int], methods: int = 1) -> list[dict[str, Any]]:
    cell = {"forward": 0.9, "backward": 0.9, "cosine": 0.5, "methods": methods}
    return [{"source": source, "target": target, **cell} for source, target in pairs]


def _found(links: Any, *, lost: str = "low_score", spans: Any = (), words: Any = WORDS) -> list[int]:
    return unknown_words(words, list(spans), [{"source": 0, "reason": lost}], {0: (1, 3), 1: (0, 1)}, links)


LOW = [word.lower() for word in WORDS]


def test_words_linked_to_a_missing_entity_are_unknown() -> None:
    assert _found(_links((1, 3), (2, 4), (0, 1)), words=LOW) == [3, 4]
    # No word of an entity that has a place, and no cell that is linked from one side alone, or not at all
    assert _found(_links((1, 3), (2, 4)), spans=[{"start": 4, "end": 5}], words=LOW) == [3]
    one_way = 1 << METHODS.index("forward")
    assert _found([*_links((1, 3)), *_links((2, 5), methods=0), *_links((2, 2), methods=one_way)], words=LOW) == [3]
    for reason in Loss:
        assert _found(_links((1, 3)), lost=reason, words=LOW) == ([] if reason == Loss.NESTED else [3])


def test_so_are_words_that_look_like_names() -> None:
    assert _found([]) == _found(None) == [1, 3]  # the first word has its capital anyway
    assert _found(_links((1, 4), (0, 1))) == [1, 3, 4]
    assert _found(None, spans=[{"start": 3, "end": 4}]) == [1]
    assert _found(None, words=["a", "b"]) == []


def test_without_case_it_is_what_has_no_link() -> None:
    words = ["東京", "に", "12", ".", "行く"]
    assert _found(None, words=words) == [0, 1, 4]
    assert _found(_links((0, 1)), words=words) == [0, 4]
    assert _found(_links((0, 1), (1, 0)), words=words) == [0]


SOURCE = {"source_tokens": ["x", "y", "z"], "source_spans": [{"start": 1, "end": 2, "label": "PER", "score": 1.0}]}
LOST = {**SOURCE, "complete": False, "unprojected": [{"source": 0, "reason": "low_score"}], "links": _links((1, 2))}
ROWS = [row("ann saw amy", (0, 1, "PER"), **LOST), row("bonn ran", (0, 1, "LOC"))]


def _weights(recipe: Training, encoder: str, folder: Path) -> list[list[float]]:
    data = read(recipe).data
    found = student(folder, encoder=encoder, labels=("LOC", "PER"))
    windows = encode(data, found.tokenizer, found.positions)
    learnt = goal(data, windows, found.names)
    assert (learnt.classes[learnt.weight == 0] == -1).all()
    return [part.tolist() for part in np.split(learnt.weight, windows.first[1:-1])]


def test_the_setting_decides_what_a_missing_entity_costs(tmp_path: Path) -> None:
    path, encoder = run(tmp_path / "run", {"spa_Latn": ROWS}), tiny(tmp_path, "bert")
    expected = {"keep": [1, 1, 1], "words": [1, 1, 0], "mask": [1, 0, 0]}
    for setting, weights in expected.items():
        given = training({"run": path, "filters": {"incomplete": setting}})
        assert _weights(given, encoder, tmp_path) == [weights, [1, 1]]
        (tally,) = read(given).tallies["data"]
        assert (tally.unknown_words, tally.masked) == (int(setting == "words"), int(setting == "mask"))
        assert tally.to_dict()["unknown_words"] == tally.unknown_words


def test_links_of_a_back_translation_start_from_its_own_entities(tmp_path: Path) -> None:
    bridged = {**LOST, "bridge_tokens": ["q", "r", "s"], "links": _links((2, 1))}
    bridged["bridge_spans"] = [{"start": 2, "end": 3, "label": "PER", "score": 1.0, "source": 0}]
    path = run(tmp_path / "run", {"spa_Latn": [row("ann saw amy", (0, 1, "PER"), **bridged)]})
    table, _ = load(training({"run": path, "filters": {"incomplete": "words"}}), "data")
    assert table.column("unknown").to_pylist() == [[1]]


def test_what_lost_an_entity_is_no_gold_for_validation(tmp_path: Path) -> None:
    rows = [row(f"ann b{n}", (0, 1, "PER"), **(LOST if n % 2 else {})) for n in range(40)]
    path = run(tmp_path / "run", {"spa_Latn": rows})
    found = read(training({"run": path, "filters": {"incomplete": "words"}}, validation_share=0.5))
    assert isinstance(found.validation, pa.Table)
    assert found.validation.num_rows and all(n % 2 == 0 for n in found.validation.column("row").to_pylist())


LABELLED = [
    row("dutch ann", (0, 1, "MISC"), (1, 2, "PER")),
    row("ann bonn b", (0, 2, "MISC"), (2, 3, "LOC")),
]


def test_words_of_masked_labels_are_no_o(tmp_path: Path) -> None:
    path, encoder = run(tmp_path / "run", {"spa_Latn": LABELLED}), tiny(tmp_path, "bert")
    masked = training({"run": path}, labels={"mask": ["MISC"]}, evaluate=[{"run": path}])
    assert _weights(masked, encoder, tmp_path) == [[0, 1], [0, 0, 1]]
    found = read(masked)
    assert found.labels == ["LOC", "PER"]
    assert found.tallies["data"][0].to_dict()["labels_masked"] == {"MISC": 2}
    # Gold that the student is scored against has no such labels; and with keep the words are O
    assert found.evaluate is not None
    assert [len(each) for each in found.evaluate.column("spans").to_pylist()] == [1, 1]
    assert found.tallies["evaluate"][0].to_dict()["labels_dropped"] == {"MISC": 2}
    kept = training({"run": path}, labels={"keep": ["LOC", "PER"]})
    assert _weights(kept, encoder, tmp_path) == [[1, 1], [1, 1, 1]]
    renamed = training({"run": path}, labels={"rename": {"MISC": "ODD"}, "mask": ["ODD"]})
    assert _weights(renamed, encoder, tmp_path) == [[0, 1], [0, 0, 1]]


def test_masked_words_of_source_sides_do_not_hide_longer_entities(tmp_path: Path) -> None:
    """There spans may overlap: an adjective inside the name of an organisation."""
    spans = [(0, 3, "ORG"), (1, 2, "MISC"), (4, 5, "MISC")]
    cells = [{"start": s, "end": e, "label": label, "score": 1.0} for s, e, label in spans]
    made = row("a", source_tokens=["the", "Dutch", "Bank", "of", "Dutch"], source_spans=cells)
    path = run(tmp_path / "run", {"spa_Latn": [made]})
    table, (tally,) = load(training({"run": path, "side": "source"}, labels={"mask": ["MISC"]}), "data")
    assert table.column("unknown").to_pylist() == [[4]] and tally.labels_masked == {"MISC": 2}
    assert isinstance(tally, Tally) and tally.nested == 0


def test_soft_words_that_are_mostly_of_a_masked_label_teach_nothing(tmp_path: Path) -> None:
    shares = [("B-MISC", 0.4), ("I-MISC", 0.2), ("O", 0.4)], [("B-MISC", 0.4), ("B-PER", 0.6)]
    tags = [{"word": n, "tag": tag, "probability": p} for n, each in enumerate(shares) for tag, p in each]
    path, encoder = run(tmp_path / "run", {"spa_Latn": [row("ann amy", target_tags=tags)]}), tiny(tmp_path, "bert")
    given = training({"run": path, "labels": "soft"}, labels={"mask": ["MISC"]})
    assert _weights(given, encoder, tmp_path) == [[0, 1]]


def test_words_that_the_tagger_holds_for_an_entity_and_no_label_has_teach_nothing(tmp_path: Path) -> None:
    """An English adjective has no label, and its translation is the name of a country: `mtsogoleri wa Russia`."""
    shares = [("O", 1.0)], [("B-PER", 0.9), ("O", 0.1)], [("B-LOC", 0.4), ("I-ORG", 0.3), ("O", 0.3)], [("B-LOC", 0.5)]
    tags = [{"word": n, "tag": tag, "probability": p} for n, each in enumerate(shares) for tag, p in each]
    rows = [row("a ann russia oslo", (1, 2, "PER"), target_tags=tags), row("a ann russia oslo")]
    sections = {"target_tag": {"engine": "spacy"}}
    path, encoder = run(tmp_path / "run", {"spa_Latn": rows}, sections=sections), tiny(tmp_path, "bert")
    for least, masked in ((0.6, [2]), (0.5, [2, 3]), (1.0, [])):
        given = training({"run": path, "filters": {"mask_tagged": least}})
        table, (tally,) = load(given, "data")
        assert [words or [] for words in table.column("unknown").to_pylist()] == [masked, []]
        assert tally.unknown_words == len(masked)
    assert _weights(training({"run": path, "filters": {"mask_tagged": 0.6}}), encoder, tmp_path)[0] == [1, 1, 0, 1]
    both = training({"run": path, "filters": {"mask_tagged": 0.6, "incomplete": "words"}})
    assert load(both, "data")[0].column("unknown").to_pylist()[0] == [2]
    none = {"target_tag": {"engine": "none"}}
    untagged = run(tmp_path / "untagged", {"spa_Latn": [row("a")]}, sections=none)
    with pytest.raises(InputError, match=r"filters\.mask_tagged: .*untagged has no target_tags; it needs a target_tag"):
        load(training({"run": untagged, "filters": {"mask_tagged": 0.5}}), "data")


def test_what_cannot_be_masked() -> None:
    with pytest.raises(ValueError, match=r"mask: MISC is one of keep; leave it out of one of them"):
        training({"run": "r"}, labels={"keep": ["PER", "MISC"], "mask": ["MISC"]})
    with pytest.raises(ValueError, match=r"filters\.incomplete: words: is for projected labels, not for labels: gold"):
        training({"run": "r", "labels": "gold", "filters": {"incomplete": "words"}})
    with pytest.raises(ValueError, match=r"evaluate: filters\.incomplete: words: is for learning"):
        training({"run": "r"}, evaluate=[{"run": "r", "filters": {"incomplete": "words"}}])
