"""The reference of all YAML files says what the models say."""

from recipe_page import PAGE, page

from xner_ray.recipe.decides import decisions
from xner_ray.recipe.model import Recipe


def test_the_page_is_what_the_models_say() -> None:
    assert PAGE.read_text("utf-8") == page(), "write it anew: python tests/helpers/recipe_page.py --write"


def test_the_page_has_every_key_of_a_run() -> None:
    for key in decisions(Recipe):
        assert key.startswith("combined") or f"| `{key}` |" in page(), key
