"""Models, labels and settings that tag/hf.py refuses before it reads text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_encoders  # noqa: F401, sets torch's threads
from tiny_taggers import IOB2, XLMR_CONLL03, config, random_model, save_tokenizer, tagger

from xner_ray.errors import RecipeError
from xner_ray.recipe.sections import Tag
from xner_ray.tag.hf import HfTagger, check


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return random_model(tmp_path_factory.mktemp("bert"))


def test_the_check_reads_no_weights(tmp_path: Path) -> None:
    section = Tag(engine="hf", model=random_model(tmp_path, names=XLMR_CONLL03))
    (tmp_path / "model.safetensors").unlink()
    assert check(section) == {label: label for label in ("LOC", "MISC", "ORG", "PER")}
    with pytest.raises(RecipeError, match=r"^model '.*': .* it has no weights; "):
        HfTagger(section)


def _refused(message: str, model: str, **options: Any) -> None:
    section = Tag(engine="hf", model=model, **options)
    for act in (check, HfTagger):
        with pytest.raises(RecipeError, match=rf"^target_tag\.{message}"):
            act(section, "target_tag")


def test_labels_that_cannot_be_mapped_are_named(bert: str) -> None:
    _refused(r"labels.PERS: '.*' has no such label; did you mean 'PER'\?", bert, labels={"PERS": "PER"})
    _refused(r"labels.B-PER: '.*' has no such label", bert, labels={"B-PER": None})
    _refused(r"labels.PER is 'O'; allowed: a label, or null, which drops it", bert, labels={"PER": "O"})
    _refused(r"labels.PER is ' x'; allowed", bert, labels={"PER": " x"})
    _refused(r"labels drops all labels of '.*' \(LOC, PER\); keep one", bert, labels={"PER": None, "LOC": None})


@pytest.mark.parametrize(
    "names", [["LABEL_0", "LABEL_1"], ["O"], ["O", "X-PER"], ["O", "B-"], ["O", " PER"], ["O", ""], ["B-A", "I-A"]]
)
def test_classes_that_are_no_tags_are_shown(names: list[str], tmp_path: Path) -> None:
    model = random_model(tmp_path, names=["O", *names[1:]])
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": dict(enumerate(names))}))
    _refused(r"model '.*': id2label in its config.json is .*allowed: O and B- I- ", model)


@pytest.mark.slow
def test_a_model_without_a_fast_tokenizer_is_refused(tmp_path: Path) -> None:
    from transformers import CanineTokenizer

    model = random_model(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    CanineTokenizer().save_pretrained(tmp_path)
    _refused(r"model '.*' has no fast tokenizer, which alone tells words apart", model)


def test_a_folder_that_is_not_there_is_named() -> None:
    for act in (check, HfTagger):
        with pytest.raises(RecipeError, match="model '/no/such': no such folder"):
            act(Tag(engine="hf", model="/no/such"))


def test_an_encoder_without_a_classifier_is_refused(tmp_path: Path) -> None:
    """transformers would make up the weights."""
    from transformers import BertConfig, BertModel

    BertModel(BertConfig(**config(IOB2))).save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    with pytest.raises(RecipeError, match=r"tag.model '.*': 2 weights are missing, as classifier.bias"):
        tagger(str(tmp_path))


def test_a_classifier_of_another_size_is_refused(tmp_path: Path) -> None:
    model = random_model(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"id2label": {0: "O", 1: "B-PER", 2: "I-PER"}}))
    with pytest.raises(RecipeError, match=r"tag.model '.*' cannot be used: "):
        tagger(model)


def test_code_that_comes_with_a_model_does_not_run(tmp_path: Path) -> None:
    model = random_model(tmp_path)
    path = tmp_path / "config.json"
    own = {"model_type": "own", "auto_map": {"AutoConfig": "own.Config"}}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    (tmp_path / "own.py").write_text("raise SystemExit('ran')")
    _refused("model '.*' cannot be used: ", model)
