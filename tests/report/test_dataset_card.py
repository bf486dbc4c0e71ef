from typing import Any

import yaml
from small_report import REPORT

from xner_ray.recipe.load import load_recipe
from xner_ray.report.card import dataset_card

FILES = ["data/swh_Latn/train-00000-of-00001.parquet", "data/swh_Latn/incomplete-train-00000-of-00001.parquet"]


def _card(**sections: Any) -> str:
    recipe = load_recipe({"input": {"path": "/secret/place/a.conll"}, "targets": ["swh_Latn"], **sections})
    return dataset_card(recipe, REPORT, FILES)


def test_the_front_matter_says_how_to_load() -> None:
    front = yaml.safe_load(_card().split("---")[1])
    data = [{"split": "train", "path": "data/swh_Latn/train-*.parquet"}]
    assert front["configs"] == [{"config_name": "swh_Latn", "data_files": data}]
    assert front["language"] == ["sw"]


def test_counts_licences_and_rejects_are_there_and_no_place_of_the_machine() -> None:
    card = _card()
    assert "| swh_Latn | Swahili | 3 | 1 | 5 | 4 | 1 |" in card
    assert "| swh_Latn | 0 | 4 |" in card
    assert "| too_long | 1 |" in card
    assert "CC BY-NC 4.0" in card
    assert "/secret" not in card


def test_the_test_model_is_not_called_nllb_200() -> None:
    assert "CC BY-NC" not in _card(translate={"model": "tiny-nllb"})
    assert "/models/mine" not in _card(translate={"model": "/models/mine"})
    llm = {"engine": "llm", "model": "owner/chat@abc", "gpus": 1}
    card = _card(translate=llm, tag={**llm, "labels": {"PER": None}})
    assert "CC BY-NC" not in card
    assert "see the model's own card" in card
    assert "translated by llm (owner/chat@abc)" in card
    card = _card(tag={"engine": "hf", "model": "/models/mine"})
    assert "/models" not in card
    assert "the tagger hf (mine)" in card


def test_other_translators_and_encoders_have_licences_of_their_own() -> None:
    card = _card(
        translate={"model": "google/madlad400-3b-mt"}, align={"encoder": "google-bert/bert-base-multilingual-cased"}
    )
    assert "NLLB-200 (translator)" not in card and "e5-small" not in card
    assert (
        "the translator named above: see its own card" in card and "the encoder named above: see its own card" in card
    )
    assert "NLLB-200 (translator)" in _card(translate={"model": "facebook/nllb-200-3.3B@abc"})


def test_every_way_to_labels_says_what_it_was() -> None:
    converted = _card(translate={"engine": "ctranslate2"})
    assert "translated by ctranslate2 (facebook/nllb-200-distilled-600M)" in converted
    assert "CC BY-NC 4.0" in converted  # other software, the same weights
    apertium = _card(translate={"engine": "apertium"}, back_translate={"engine": "apertium"})
    assert "text: translated by apertium\n" in apertium
    assert "carried over a back-translation: apertium" in apertium
    assert "GPL" in apertium
    assert "CC BY-NC" not in apertium
    marked = _card(projector="marker")
    assert "matching: none: entities in brackets through the translator, similarity above 0.5" in marked
    assert "they came through a translator in brackets" in marked
    assert "alignment" not in marked
    assert "e5-small" not in marked
    constrained = _card(projector="constrained", constrained={"model": "/models/brackets"})
    assert "they are where a translator would put brackets in the translation" in constrained
    assert "probability of places: brackets\n" in constrained
    assert "matching: exact solver, <=1 projection per entity, score constrained" in constrained
    assert "probability of places" not in marked
    assert "e5-small" not in constrained
    transfer = _card(projector="transfer", target_tag={"engine": "spacy"})
    assert "entities from the tagger of the target words" in transfer
    assert "en_core_web_sm" in transfer


def test_the_card_says_which_scores_make_a_sentence_incomplete() -> None:
    assert "sentences with an unprojected entity: keep\n" in _card()
    said = "sentences with an unprojected entity, or one with a score below 0.7: split\n"
    assert said in _card(output={"doubtful": 0.7, "incomplete": "split"})


def test_the_card_of_a_combined_run_speaks_of_its_runs() -> None:
    """Not of what its first run did: the others did something else."""
    combined = {"runs": ["first", "second"], "weights": [2, 1], "method": "vote", "models": ["builtin", "hf"]}
    first = {"target_tag": {"engine": "hf", "model": "one/two"}, "translate": {"model": "tiny-nllb"}}
    card = _card(projector="combine", combined=combined, **first)
    assert "entities from the runs named below" in card
    assert "vote of the runs 2 first, 1 second" in card
    assert "multilingual-e5-small" in card
    assert "one/two" not in card
    assert "alignment" not in card.split("## How")[1]
