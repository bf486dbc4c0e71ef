"""xner_ray: projection-based named-entity data for languages that have none, in batches on Ray.

import xner_ray
report = xner_ray.project("jobs/quickstart.yaml", "runs/quickstart")
xner_ray.evaluate("runs/quickstart")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xner_ray.errors import XnerError

if TYPE_CHECKING:
    from xner_ray.commands.adapt import adapt
    from xner_ray.commands.combine import combine
    from xner_ray.commands.compare import compare
    from xner_ray.commands.cross_validate import cross_validate
    from xner_ray.commands.inspect import evaluate, explain, export, sample, status, write_page
    from xner_ray.commands.project import plan, project
    from xner_ray.commands.rematch import rematch
    from xner_ray.commands.sweep import sweep
    from xner_ray.commands.train import train
    from xner_ray.recipe.load import load_recipe
    from xner_ray.recipe.model import Recipe

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
    "Recipe": "xner_ray.recipe.model",
    "adapt": "xner_ray.commands.adapt",
    "load_recipe": "xner_ray.recipe.load",
    "combine": "xner_ray.commands.combine",
    "compare": "xner_ray.commands.compare",
    "cross_validate": "xner_ray.commands.cross_validate",
    "plan": "xner_ray.commands.project",
    "project": "xner_ray.commands.project",
    "rematch": "xner_ray.commands.rematch",
    "sweep": "xner_ray.commands.sweep",
    "train": "xner_ray.commands.train",
}

# Packages with the names of commands. A first import of one puts the package where the command belongs, so it is made
# here; `from xner_ray.train import ray` finds them all the same.
for _name in ("adapt", "evaluate", "train"):
    import_module(f"xner_ray.{_name}")
    del globals()[_name]


def __getattr__(name: str) -> Any:
    """Load on first use: the package alone must not import Ray and torch, which take seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'xner_ray' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "xner_ray.commands.inspect")), name)
    globals()[name] = value
    return value
