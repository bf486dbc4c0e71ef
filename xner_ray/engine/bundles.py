"""Units put together for one worker: those of one range of rows in several languages, whose source side is the same.

A stage that reads source sentences remembers what it read for the unit before (`stage.LastResult`), so a worker that
makes these units one after the other tags and encodes their source sentences once. Bytes do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from xner_ray.engine.pools import Group
from xner_ray.read.index.units import Unit
from xner_ray.recipe.model import Recipe

_MOST_ROWS = 1 << 17  # of a bundle: a hundred megabytes on their way, and what a fault may cost
_BUNDLES_A_WORKER = 2  # at least, or some workers would wait for the last one
_SHARING = ("tag", "image", "target_tag", "align")  # stages that read the source side


def bundled(units: Sequence[Unit], recipe: Recipe, groups: Sequence[Group] = ()) -> list[tuple[Unit, ...]]:
    """Return the units, each once, range by range.

    groups: the pools that they go to; none is this process, whatever the bundles. Where a bundle of all languages a
    range would leave workers idle, bundles are smaller.
    """
    ordered = sorted(units, key=lambda unit: (unit.start, unit.stop))
    stages = [stage for stage in _SHARING if stage in recipe.stages]
    if not stages or recipe.direction == "test":  # there the source side is the translation
        return [(unit,) for unit in ordered]
    workers = max((group.workers[1] for group in groups if {*stages} & {*group.stages}), default=0)
    most = max(1, len(ordered) // (_BUNDLES_A_WORKER * workers)) if workers else len(ordered)
    most = min(most, max(1, _MOST_ROWS // max((unit.n_rows for unit in ordered), default=1)))
    found: list[tuple[Unit, ...]] = []
    for _, same in groupby(ordered, key=lambda unit: (unit.start, unit.stop)):
        own = tuple(same)
        found += [own[start : start + most] for start in range(0, len(own), most)]
    return found
