"""Small files of sentences with given links or entities, and recipes of either direction."""

import json
from pathlib import Path
from typing import Any

from xner_ray.recipe.load import load_recipe
from xner_ray.recipe.model import Recipe


def write(path: Path, content: str | list[dict[str, Any]]) -> str:
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    path.write_text(text, encoding="utf-8")
    return str(path)


def to_train(path: str, parallel: str, links: str, *, unit_rows: int = 2048, **given: Any) -> Recipe:
    return load_recipe(
        {
            "input": {"path": path, "parallel": {"spa_Latn": parallel}, "links": links, **given},
            "targets": ["spa_Latn"],
            "align": {"backend": "provided"},
            "engine": {"unit_rows": unit_rows},
        }
    )


def to_test(path: str, parallel: str, links: str | None = None, **given: Any) -> Recipe:
    return load_recipe(
        {
            "direction": "test",
            "input": {"path": path, "lang": "spa_Latn", "parallel": {"eng_Latn": parallel}, "links": links, **given},
            "tag": {"engine": "provided"},
            "align": {"backend": "provided" if links else "batched"},
        }
    )
