"""xner_ray: projection-based named-entity data for languages that have none, in batches on Ray.

import xner_ray
report = xner_ray.project("jobs/quickstart.yaml", "runs/quickstart")
xner_ray.evaluate("runs/quickstart")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xner_ray.errors import XnerError

if TYPE_CHECKING:
    from xner_ray.adapting import adapt
    from xner_ray.comparing import compare
    from xner_ray.cross_validation import cross_validate
    from xner_ray.deriving import combine, rematch
    from xner_ray.inspecting import evaluate, explain, export, sample, status, write_page
    from xner_ray.making import plan, project
    from xner_ray.recipe import Recipe
    from xner_ray.recipe_file import load_recipe
    from xner_ray.sweeping import sweep
    from xner_ray.training import train

__version__ = "0.1.0"

__all__ = [
    "Recipe",
    "XnerError",
    "__version__",
    "adapt",
    "combine",
    "compare",
    "cross_validate",
    "evaluate",
    "explain",
    "export",
    "load_recipe",
    "plan",
    "project",
    "rematch",
    "sample",
    "status",
    "sweep",
    "train",
    "write_page",
]

_HOMES = {
    "Recipe": "xner_ray.recipe",
    "adapt": "xner_ray.adapting",
    "load_recipe": "xner_ray.recipe_file",
    "combine": "xner_ray.deriving",
    "compare": "xner_ray.comparing",
    "cross_validate": "xner_ray.cross_validation",
    "plan": "xner_ray.making",
    "project": "xner_ray.making",
    "rematch": "xner_ray.deriving",
    "sweep": "xner_ray.sweeping",
    "train": "xner_ray.training",
}


def __getattr__(name: str) -> Any:
    """Load on first use: the package alone must not import Ray and torch, which take seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'xner_ray' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOMES.get(name, "xner_ray.inspecting")), name)
    globals()[name] = value
    return value
