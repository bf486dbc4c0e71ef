"""Small files of sentences with given links or entities, and recipes of either direction."""

import json
from pathlib import Path
from typing import Any

import yaml

from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe

SENTENCE = "Ada\tB-PER\nmet\tO\nBo\tB-PER\nin\tO\nRome\tB-LOC"
TRANSLATION = "In Rom traf Ada Bo"
LINKS = "0-3 1-2 2-4 3-0 4-1"


def write(path: Path, content: str | list[dict[str, Any]]) -> str:
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(text, encoding="utf-8")
    return str(path)


def write_sentences(folder: Path, n_rows: int, *, ids: bool = True, bad: int | None = None) -> None:
    """Write `n_rows` times SENTENCE, its translation and their links. bad: the row whose tags are illegal."""
    rows = [SENTENCE if n != bad else "Bad\tX-TAG" for n in range(n_rows)]
    rows = [f"# id = {n}\n{row}" for n, row in enumerate(rows)] if ids else rows
    write(folder / "in.conll", "\n\n".join(rows) + "\n")
    write(folder / "out.txt", f"{TRANSLATION}\n" * n_rows)
    write(folder / "links.txt", f"{LINKS}\n" * n_rows)


def over_links(**sections: Any) -> dict[str, Any]:
    """Return a recipe over the files of `write_sentences`, which loads no model; sections replace it key by key."""
    recipe: dict[str, Any] = {
        "input": {"path": "in.conll", "parallel": {"deu_Latn": "out.txt"}, "links": "links.txt"},
        "targets": ["deu_Latn"],
        "align": {"backend": "provided"},
    }
    for name, given in sections.items():
        recipe[name] = {**recipe.get(name, {}), **given} if isinstance(given, dict) else given
    return recipe


def write_recipe(path: Path, **sections: Any) -> Path:
    """Write the recipe of `over_links`; return its path."""
    path.write_text(yaml.safe_dump(over_links(**sections)), encoding="utf-8")
    return path


def to_train(path: str, parallel: str, links: str, *, unit_rows: int = 2048, **given: Any) -> Recipe:
    files = {"path": path, "parallel": {"spa_Latn": parallel}, "links": links, **given}
    return load_recipe(over_links(input=files, targets=["spa_Latn"], engine={"unit_rows": unit_rows}))


def to_test(path: str, parallel: str, links: str | None = None, **given: Any) -> Recipe:
    return load_recipe(
        {
            "direction": "test",
            "input": {"path": path, "lang": "spa_Latn", "parallel": {"eng_Latn": parallel}, "links": links, **given},
            "tag": {"engine": "provided"},
            "align": {"backend": "provided" if links else "batched"},
        }
    )
