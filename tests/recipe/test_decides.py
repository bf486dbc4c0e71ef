from typing import Annotated

import pytest
from pydantic import BaseModel

from xner_ray.commands import rematch
from xner_ray.recipe.decides import Decides, decision, decisions, inner_section
from xner_ray.recipe.fingerprint import fingerprint
from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import DECISIONS, Recipe, keys_that
from xner_ray.recipe.sections import Runtime, Section


def _silent(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Return the keys below a model whose fields do not say what they decide."""
    found = []
    for name, field in model.model_fields.items():
        inner = inner_section(field)
        # A section that is never null leaves it to its own fields.
        if decision(field) is None and (inner is None or field.annotation is not inner):
            found.append(prefix + name)
        if inner is not None:
            found += _silent(inner, f"{prefix}{name}.")
    return found


def test_every_field_of_a_recipe_says_what_it_decides() -> None:
    assert _silent(Recipe) == []
    assert len(DECISIONS) > 130


def test_a_field_that_says_nothing_is_found_at_any_depth() -> None:
    class Inner(Section):
        told: Annotated[int, Decides.ROWS] = 1
        silent: int = 2

    class Outer(Section):
        inner: Inner = Inner()
        maybe: Inner | None = None

    assert _silent(Outer) == ["inner.silent", "maybe", "maybe.silent"]
    assert decisions(Outer) == {"inner.told": Decides.ROWS, "maybe.told": Decides.ROWS}


def test_keys_of_the_runtime_decide_no_row() -> None:
    for key in Runtime.model_fields:
        assert {DECISIONS[f"{stage}.{key}"] for stage in ("translate", "tag", "align", "match")} == {Decides.RUN}


@pytest.mark.parametrize("decides", [Decides.RUN, Decides.FILES, Decides.MODEL])
def test_the_fingerprint_has_no_key_that_decides_no_row_itself(decides: Decides) -> None:
    """Of a recipe in which every stage of projector match runs."""
    sections = {
        "tag": {"engine": "hf", "model": "m"},
        "back_translate": {"engine": "nllb"},
        "target_tag": {"engine": "llm", "model": "m", "labels": {"PER": None}},
        "evidence": {"plugin": "own.py"},
        "likelihood": {"engine": "nllb"},
    }
    recipe = load_recipe({"input": {"path": "a", "sample": {"rows": 2}}, "targets": ["spa_Latn"], **sections})
    assert len(recipe.stages) == 8
    keys = fingerprint(recipe, {}, {}, {}).keys()
    assert not keys & set(keys_that(decides))
    unread = {"translate.min_similarity", "translate.llm.context_tokens", "tag.llm.context_tokens"}
    unread |= {"likelihood.beams", "likelihood.max_new_tokens"}
    unread |= {"tag.context", "target_tag.context"}  # null
    # Without pictures, nothing of them is there
    unread |= {
        key for key in keys_that(Decides.ROWS) if key.startswith(("image.", "input.images.", "input.columns.image"))
    }
    unread |= {key for key in keys_that(Decides.ROWS) if key.endswith((".images", ".llm.image_side"))}
    gone = {key for key in keys_that(Decides.ROWS, Decides.CELLS, Decides.WINNERS, Decides.CHOICE) if key not in keys}
    # Mappings stand there by their keys; of a section that is null only its own key.
    gone -= {"target_tag.labels", "match.scores", "input.sample"}
    assert gone == unread | {key for key in DECISIONS if key.startswith("combined.")} | {
        key for key in DECISIONS if key.startswith("constrained.") and DECISIONS[key] == Decides.ROWS
    }


def test_projector_constrained_has_its_section_in_the_fingerprint_and_of_match_the_solver() -> None:
    recipe = load_recipe({"input": {"path": "a"}, "targets": ["spa_Latn"], "projector": "constrained"})
    keys = fingerprint(recipe, {}, {}, {}).keys()
    assert {key for key in keys if key.startswith("match.")} == {
        *("match.solver", "match.max_words", "match.per_entity", "match.time_limit_s")
    }
    assert {key for key in keys if key.startswith("constrained.")} == {
        *("constrained.engine", "constrained.beams", "constrained.dtype", "constrained.min_ratio")
    }
    assert not {key for key in keys if key.startswith(("align.", "likelihood."))}


def test_a_rematch_knows_which_keys_decide_the_cells() -> None:
    assert set(rematch._CELL) == {"align.method", "match.candidates", "match.sub_ranges", "match.max_words"}
    likely = {key for key in DECISIONS if key.startswith(("match.", "align.")) and not key.startswith(rematch._NO_CELL)}
    weights = {"scores", "thresholds", "filters", "tagger.alpha", "tagger.reward", "min_score", "per_entity"}
    assert {key for key in likely if key.startswith("match.")} - set(rematch._CELL) == {f"match.{k}" for k in weights}
