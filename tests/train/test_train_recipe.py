"""A student's recipe: what it refuses, in words."""

from typing import Any

import pytest
from pydantic import ValidationError

from xner_ray.train.load import load_training
from xner_ray.train.recipe import Model, Source, Training

FILES = {"input": {"path": "a.conll"}}
RUN = {"run": "RUN"}


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({}, "give either run"),
        ({**RUN, **FILES}, "give either run"),
        ({"input": {"path": "a", "sample": {"rows": 3}}}, "parallel, links, split and sample"),
        ({"input": {"path": "a", "lang": ["deu_Latn"]}}, "one language; write an entry of its own"),
        ({**FILES, "labels": "gold"}, "labels: is for runs"),
        ({**FILES, "filters": {"min_score": 0.5}}, "filters.min_score: is about projected sentences"),
        ({**FILES, "filters": {"flags": ["snapped"]}}, "filters.flags: is about projected sentences"),
        ({**RUN, "side": "source", "filters": {"incomplete": "drop"}}, "filters.incomplete: is about projected"),
        ({**RUN, "side": "source", "labels": "gold"}, "the source side has one kind"),
        ({**RUN, "side": "source", "weight_by": "score"}, "has no projected entities"),
        ({**RUN, "labels": "gold", "filters": {"incomplete": "mask"}}, "incomplete: mask: is for projected"),
        ({**RUN, "labels": "soft", "filters": {"incomplete": "mask"}}, "not for labels: soft"),
        ({**RUN, "labels": "gold", "filters": {"mask_below": 0.8}}, "filters.mask_below: is for projected labels"),
        ({**FILES, "filters": {"mask_below": 0.5}}, "filters.mask_below: is about projected sentences"),
        ({**RUN, "teachers": [{"run": "B"}]}, "teachers: need labels: soft"),
        ({**RUN, "filters": {"words": [3, 2]}}, "1 <= least <= most"),
        ({**RUN, "filters": {"min_score": 1.5}}, "less than or equal to 1"),
        ({**RUN, "filters": {"flags": ["repeats"]}}, "Input should be 'snapped', .*'translation_repeats'"),
        ({**RUN, "filtres": {}}, "Extra inputs are not permitted"),
    ],
)
def test_a_source_is_refused(source: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Source.model_validate(source)


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ({"data": []}, "at least 1 item"),
        ({"validation": [RUN], "validation_share": 0.1}, "exclude each other"),
        ({"fit": {"patience": 2}}, "stopping early needs validation"),
        ({"evaluate": [{**RUN, "labels": "soft"}]}, "evaluate: scores need spans; allowed labels: projected, gold"),
        ({"validation": [{**RUN, "filters": {"incomplete": "mask"}}]}, "validation: filters.incomplete: mask: is for"),
        ({"evaluate": [{**RUN, "filters": {"mask_below": 0.5}}]}, "evaluate: filters.mask_below: is for learning"),
        ({"data": [{**RUN, "labels": "soft"}], "validation_share": 0.1}, "labels: soft has none; give validation"),
        ({"folds": {"n": 3, "held_out": 3}}, "allowed: 0 to 2"),
        ({"model": {"layers": 2, "frozen": 3}}, "frozen is 3, but only 2 layers are kept"),
        ({"model": {"context": ""}}, "at least 1 character"),
        ({"model": {"context": "tokens"}}, "'tokens' is a column of every run; allowed: one that your files have"),
    ],
)
def test_a_recipe_is_refused(others: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Training.model_validate({"data": [RUN], **others})


def test_the_built_in_encoder_is_cut_and_frozen_unless_said_otherwise() -> None:
    assert (Model().n_layers, Model().n_frozen) == (9, 7)
    assert (Model(layers=5).n_layers, Model(layers=5).n_frozen) == (5, 5)
    assert (Model(frozen=0).n_layers, Model(frozen=0).n_frozen) == (9, 0)
    assert (Model(encoder="builtin-tagger").n_layers, Model(encoder="builtin-tagger").n_frozen) == (None, 7)
    assert (Model(encoder="x").n_layers, Model(encoder="x").n_frozen) == (None, 0)


def test_names_of_sources() -> None:
    assert Source.model_validate({**RUN, "langs": ["deu_Latn"], "labels": "soft"}).name == "RUN (soft: deu_Latn)"
    assert Source.model_validate({**RUN, "side": "source"}).name == "RUN (source side)"
    assert Source.model_validate(FILES).name == "a.conll (eng_Latn)"


def test_loading_a_recipe_states_no_key_that_it_leaves_out() -> None:
    """Checks tell a stated key from a default, and a recipe may be loaded again."""
    given = {"data": [{**RUN, "side": "source"}]}
    dumped = load_training(given).model_dump(mode="json", exclude_unset=True)
    assert set(dumped) == {"data"} and set(dumped["data"][0]) == {*RUN, "side"}
    assert load_training(dumped).model_dump() == load_training(given).model_dump()
