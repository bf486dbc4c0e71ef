"""Named-entity data for languages that have none, by projection across parallel text, in batches on Ray.

import xner_ray
projector = xner_ray.Projector(targets=["spa_Latn"])  # in memory
rows = projector.project(["Ana lives in Paris."], parallel={"spa_Latn": ["Ana vive en París."]})
run = xner_ray.project("jobs/quickstart.yaml", "runs/quickstart")  # in a run folder
run.evaluate()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from xner_ray.version import __version__

if TYPE_CHECKING:
    from xner_ray.api.loops import loop
    from xner_ray.api.projector import Projector
    from xner_ray.api.rows import Rows
    from xner_ray.api.runs import Run, project
    from xner_ray.commands.across.robustness import robustness
    from xner_ray.commands.adapt import adapt
    from xner_ray.commands.combine import combine
    from xner_ray.commands.compare import compare
    from xner_ray.commands.export import export
    from xner_ray.commands.inspect import evaluate, explain, sample, status, write_page
    from xner_ray.commands.project import plan
    from xner_ray.commands.rejects import rejects
    from xner_ray.commands.rematch import rematch
    from xner_ray.commands.start.look import look
    from xner_ray.commands.sweep import sweep
    from xner_ray.commands.train import train
    from xner_ray.commands.validation.command import cross_validate
    from xner_ray.errors import XnerError
    from xner_ray.recipe.load import load_recipe
    from xner_ray.recipe.model import Recipe
    from xner_ray.report.status import Status
    from xner_ray.run.counters import Report

__all__ = [
    "Projector",
    "Recipe",
    "Report",
    "Rows",
    "Run",
    "Status",
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
    "look",
    "loop",
    "plan",
    "project",
    "rejects",
    "rematch",
    "robustness",
    "sample",
    "status",
    "sweep",
    "train",
    "write_page",
]

_HOMES = {
    "Projector": "xner_ray.api.projector",
    "Recipe": "xner_ray.recipe.model",
    "Report": "xner_ray.run.counters",
    "Rows": "xner_ray.api.rows",
    "Run": "xner_ray.api.runs",
    "Status": "xner_ray.report.status",
    "XnerError": "xner_ray.errors",
    "adapt": "xner_ray.commands.adapt",
    "load_recipe": "xner_ray.recipe.load",
    "combine": "xner_ray.commands.combine",
    "compare": "xner_ray.commands.compare",
    "cross_validate": "xner_ray.commands.validation.command",
    "export": "xner_ray.commands.export",
    "look": "xner_ray.commands.start.look",
    "loop": "xner_ray.api.loops",
    "plan": "xner_ray.commands.project",
    "project": "xner_ray.api.runs",
    "rejects": "xner_ray.commands.rejects",
    "rematch": "xner_ray.commands.rematch",
    "robustness": "xner_ray.commands.across.robustness",
    "sweep": "xner_ray.commands.sweep",
    "train": "xner_ray.commands.train",
}

# Importing the packages `adapt`, `evaluate` and `train` would later put each in the place of the command of its name,
# so import them first; `from xner_ray.train import ray` still finds them.
for _name in ("adapt", "evaluate", "train"):
    import_module(f"xner_ray.{_name}")
    del globals()[_name]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: the package alone must import neither Ray nor torch, which take seconds."""
    if name not in __all__:
        raise AttributeError(f"module 'xner_ray' has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, "xner_ray.commands.inspect")), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names, also those that are not imported yet."""
    return __all__
