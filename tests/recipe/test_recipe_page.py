"""The reference of the section `input` says what the models say."""

from recipe_page import PAGE, page

from xner_ray.recipe.decides import decisions
from xner_ray.recipe.input import Input


def test_the_page_is_what_the_models_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it anew: python tests/helpers/recipe_page.py --write"


def test_the_page_has_every_key() -> None:
    for key in decisions(Input):
        assert f"| `input.{key}` |" in page()
