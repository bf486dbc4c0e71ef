"""From a recipe to a model's folder: scores against gold, the report, the card."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from huggingface_hub import ModelCard
from rich.console import Console
from students import CPU, TOY, row, run, sentences, training
from tiny_encoders import tiny

from xner_ray.errors import RecipeError
from xner_ray.models.windows import Windows
from xner_ray.report.comparison import training_tables
from xner_ray.train.card import model_card
from xner_ray.train.recipe import Training
from xner_ray.train.student import Trained, counts_of, device_here, micro_f1, read, scored, train, write_model
from xner_ray.train.windows import encode

NAMES = ["B-PER", "O", "I-PER"]  # class 0 is not O


@pytest.fixture(scope="module")
def pieces_of_words(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = AutoTokenizer.from_pretrained(tiny(folder, "bert"))
    return lambda table: encode(table, tokenizer, 32)


def test_classes_become_spans_and_unknown_labels_of_gold_are_missed(pieces_of_words: Any) -> None:
    gold = sentences(
        [
            {"tokens": ["a", "b", "c"], "spans": [(0, 2, "PER")]},
            {"tokens": ["a"], "spans": [(0, 1, "ODD")], "lang": "deu_Latn"},
            {"tokens": ["a", "b"], "spans": [(1, 2, "PER")]},
        ]
    )
    pieces: Windows = pieces_of_words(gold)
    table = scored(gold, pieces, np.array([0, 2, 1, 1, 0, 0]), NAMES)
    found = [[(s["start"], s["end"], s["label"]) for s in each] for each in table.column("spans").to_pylist()]
    assert found == [[(0, 2, "PER")], [], [(0, 1, "PER"), (1, 2, "PER")]]
    counts = counts_of(table)
    assert [one.lang for one in counts] == ["deu_Latn", "spa_Latn"]
    assert micro_f1(counts) == pytest.approx(2 * 2 / (3 + 3))
    # An I- that continues nothing begins an entity
    table = scored(gold, pieces, np.array([1, 2, 2, 1, 1, 1]), NAMES)
    assert [len(each) for each in table.column("spans").to_pylist()] == [1, 0, 0]
    assert micro_f1(counts_of(scored(gold.slice(1, 1), pieces_of_words(gold.slice(1, 1)), np.array([1]), NAMES))) == 0
    # A head that was kept may predict what is left out, of which the gold has nothing either
    table = scored(gold, pieces, np.array([0, 2, 1, 1, 0, 0]), NAMES, lambda label: label != "PER")
    assert [len(each) for each in table.column("spans").to_pylist()] == [0, 0, 0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Training, Trained, Path]:
    """A toy run, learnt from and scored on; a teacher beside it and a source of no weight to speak of."""
    folder = tmp_path_factory.mktemp("student")
    rows = [row(words, *spans) for words, spans in TOY]
    soft = [row(words, target_tags=[{"word": 0, "tag": "O", "probability": 1.0}]) for words, _ in TOY]
    toy = run(folder / "toy", {"spa_Latn": [*rows, row("of low score", (0, 1, "PER"), score=0.2)]})
    tagged = run(folder / "tagged", {"swh_Latn": soft})
    recipe = training(
        {"run": toy, "weight": 2.0, "filters": {"min_score": 0.5}},
        {"run": tagged, "labels": "soft", "teachers": [{"run": tagged}], "weight": 0.001},
        validation=[{"run": toy}],
        evaluate=[{"run": toy, "filters": {"words": [1, 99]}}],
        model={"encoder": tiny(folder, "bert"), "layers": 3, "frozen": 1, "dropout": 0.0},
        fit={"epochs": 40, "batch_sentences": 4, "learning_rate": 3e-3, "head_learning_rate": 1e-2, "patience": 30},
    )
    return recipe, train(recipe, samples=20, device=CPU), folder


def test_report_card_and_folder(trained: tuple[Training, Trained, Path], tmp_path: Path) -> None:
    recipe, found, folder = trained
    report = write_model(found, recipe, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "training.json").read_text()) == json.loads(json.dumps(report))
    assert report["labels"] == ["LOC", "PER"] and report["head"] == "new"
    data = report["sentences"]["data"]
    assert [(each["read"], each["kept"], each["dropped"]) for each in data] == [(9, 8, {"score": 1}), (8, 8, {})]
    assert report["best_checkpoint"] <= len(report["history"]) <= 40
    best = report["history"][report["best_checkpoint"] - 1]["f1"]
    assert best == max(entry["f1"] for entry in report["history"]) > 0.5
    (language,) = report["evaluation"]["languages"]
    assert language["overall"]["f1"] == pytest.approx(best)  # the same sentences, the best weights
    loaded = ModelCard.load(tmp_path / "out" / "README.md")
    card, data = str(loaded), loaded.data
    assert data.language == ["es", "sw"] and data.pipeline_tag == "token-classification"
    assert data.eval_results is not None
    figures = {
        (e.task_type, e.dataset_type, e.dataset_config, e.metric_type): e.metric_value for e in data.eval_results
    }
    assert figures == {
        ("token-classification", "toy", "spa_Latn", metric): round(language["overall"][metric], 4)
        for metric in ("precision", "recall", "f1")
    }
    assert str(folder) not in card and "{" not in card
    assert "| spa_Latn, projected labels, weight 2 | 9 | 8 | 1 score |" in card
    assert "the lowest 3 layers, the lowest 1 of them frozen; the head was new" in card
    assert "| spa_Latn | 9 | gold labels | " in card and "agrees" not in card and "own head" not in card
    assert "CC BY-NC" in card  # what the runs were translated with


def test_the_card_names_the_models_of_teachers(trained: tuple[Training, Trained, Path], tmp_path: Path) -> None:
    recipe, found, _ = trained
    report = found.report(recipe)
    alone = model_card(recipe, {**report, "evaluation": None})
    assert "was not scored against gold" in alone and ModelCard(alone).data.eval_results is None
    other = run(tmp_path / "spacy", {"swh_Latn": [row("a")]}, direction="test")
    teachers = recipe.model_copy(
        update={
            "data": [
                recipe.data[0],
                recipe.data[1].model_copy(update={"teachers": [type(recipe.data[1].teachers[0])(run=other)]}),
            ]
        }
    )
    assert "spaCy" not in model_card(recipe, report) and "spaCy" in model_card(teachers, report)
    begun = recipe.with_encoder("builtin-tagger")
    assert "pass it on under the same terms" not in model_card(recipe, report)
    assert "CC BY-SA 4.0" in (card := model_card(begun, report)) and "pass it on under the same terms" in card


def test_scores_against_what_a_machine_made_are_called_so(
    trained: tuple[Training, Trained, Path], tmp_path: Path
) -> None:
    recipe, found, _ = trained
    source = recipe.evaluate[0]

    def asked(*sources: dict[str, Any]) -> Training:
        return recipe.model_copy(update={"evaluate": [source.model_copy(update=each) for each in sources]})

    projected = found.report(asked({"labels": "projected"}))
    assert projected["against"] == {"spa_Latn": "projected labels"}
    card = ModelCard(model_card(asked({"labels": "projected"}), projected))
    assert card.data.eval_results is None and "| spa_Latn | 9 | projected labels | " in str(card)
    assert "Labels that a machine made are no gold" in str(card)
    console = Console(file=io.StringIO(), width=200)
    console.print(training_tables(projected))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "spa_Latn: against projected labels" in shown and "against gold" not in shown
    both = found.report(asked({}, {"labels": "projected"}))
    assert both["against"] == {"spa_Latn": "gold labels and projected labels"}
    assert ModelCard(model_card(asked({}, {"labels": "projected"}), both)).data.eval_results is None
    side = found.report(asked({"side": "source"}))
    assert side["against"] == {"eng_Latn": "gold labels"}
    other = run(tmp_path / "spacy", {"swh_Latn": [row("a")]}, direction="test")
    assert found.report(asked({"side": "source", "run": other}))["against"] == {"eng_Latn": "a tagger's tags"}
    kept = model_card(recipe, {**found.report(recipe), "other_labels": ["MISC"]})
    assert "still gives the labels MISC of the encoder's own head" in kept


@pytest.mark.slow
def test_equal_trainings_give_equal_reports(trained: tuple[Training, Trained, Path]) -> None:
    recipe, found, _ = trained
    again = train(recipe, samples=20, device=CPU)
    assert again.report(recipe) == found.report(recipe)


def test_what_cannot_be_trained(tmp_path: Path) -> None:
    path = run(tmp_path / "run", {"spa_Latn": [row("a b")]})
    with pytest.raises(RecipeError, match=r"no sentence has an entity to learn; look at labels\.keep"):
        read(training({"run": path}))
    if not torch.cuda.is_available():
        with pytest.raises(RecipeError, match="sees no CUDA device; set it to 0 for CPUs"):
            device_here(1.0)


def test_entities_of_which_none_is_certain_teach_nothing(tmp_path: Path) -> None:
    path = run(tmp_path / "run", {"spa_Latn": [row("ann ran", (0, 1, "PER"), score=0.5)] * 3})
    with pytest.raises(RecipeError, match=r"no sentence has an entity to learn; .*3 have a score below"):
        read(training({"run": path, "filters": {"mask_below": 0.6}}))


def test_what_is_not_certain_is_no_gold_for_validation(tmp_path: Path) -> None:
    rows = [row(f"ann {n}", (0, 1, "PER"), score=0.5 if n % 3 else 1.0, complete=n % 3 < 2) for n in range(60)]
    path = run(tmp_path / "run", {"spa_Latn": rows})
    given = {"run": path, "filters": {"mask_below": 0.6, "incomplete": "mask"}}
    found = read(training(given, validation_share=0.5))
    assert found.validation is not None
    assert all(number % 3 == 0 for number in found.validation.column("row").to_pylist())
    (tally,) = found.tallies["validation"]
    assert tally.dropped["uncertain"] > 10 and tally.read == tally.kept + sum(tally.dropped.values())


def test_a_share_for_validation_is_not_learnt_from(tmp_path: Path) -> None:
    rows = [row(f"w{chr(97 + n)}", (0, 1, "PER")) for n in range(20)]
    found = read(training({"run": run(tmp_path / "run", {"spa_Latn": rows})}, validation_share=0.3))
    assert isinstance(found.validation, pa.Table) and found.evaluate is None
    ours, held = (set(table.column("id").to_pylist()) for table in (found.data, found.validation))
    assert not ours & held and len(ours | held) == 20 and held
    assert set(found.tallies) == {"data", "validation"}
