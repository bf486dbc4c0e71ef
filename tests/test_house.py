"""The house stands as CONTRIBUTING.md draws it, and what docstrings show is what their functions give."""

import doctest
import importlib
from pathlib import Path

import pytest
from house import tree

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "xner_ray"


def test_the_tree_of_contributing_is_true() -> None:
    drawn = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert f"```\n{tree()}\n```\n" in drawn, "draw it anew: python tests/house.py tree --write"


def test_commands_keep_their_names_beside_packages() -> None:
    import xner_ray
    from xner_ray.train import recipe

    assert recipe.__name__ == "xner_ray.train.recipe"
    assert all(callable(getattr(xner_ray, name)) for name in xner_ray.__all__ if name != "__version__")


def test_no_file_is_above_400_lines() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


def test_pure_modules_import_without_torch_and_ray() -> None:
    import subprocess
    import sys

    code = (
        "import sys, xner_ray, xner_ray.cli, xner_ray.match.solver, xner_ray.commands.inspect, "
        "xner_ray.engine.envelope, xner_ray.engine.guard, xner_ray.engine.stages, xner_ray.engine.second_pass; "
        "heavy = {'ray', 'torch', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


_EXAMPLES = [path.relative_to(ROOT) for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text("utf-8")]


@pytest.mark.parametrize("path", _EXAMPLES, ids=str)
def test_examples_of_docstrings(path: Path) -> None:
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed
