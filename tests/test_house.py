"""The package as CONTRIBUTING.md draws it: its file tree, its import floors, its public names."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HEAVY_FIRST
from house import floors, tree

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "xner_ray"
MOST_FLOORS = 14


def test_the_tree_of_contributing_is_true() -> None:
    drawn = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert f"```\n{tree()}\n```\n" in drawn, "draw it anew: python tests/house.py tree --write"


def test_public_names_are_what_type_checkers_take_them_for() -> None:
    import xner_ray
    from xner_ray.train import recipe  # imports the package of a name that the command `train` has too

    assert recipe.__name__ == "xner_ray.train.recipe"
    door = ast.parse((PACKAGE / "__init__.py").read_text("utf-8"))
    homes = {
        alias.name: node.module
        for node in ast.walk(door)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("xner_ray.")
        for alias in node.names
    }
    assert dir(xner_ray) == sorted(homes) == xner_ray.__all__
    for name, home in homes.items():
        assert getattr(xner_ray, name) is getattr(importlib.import_module(home), name), name
    with pytest.raises(AttributeError, match="no attribute 'projekt'"):
        _ = xner_ray.projekt


def test_imports_stack_no_higher_than_they_did() -> None:
    assert max(floors().values()) <= MOST_FLOORS, "python tests/house.py floors --all"


def test_files_of_tests_to_run_first_exist() -> None:
    assert [name for name in HEAVY_FIRST if not (ROOT / "tests" / name).is_file()] == []


def test_no_file_is_above_400_lines() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        (["xner_ray"], {"numpy", "pyarrow", "pydantic", "ray", "torch", "typer"}),
        (
            [
                *("cli", "match.solver", "commands.inspect", "engine.envelope", "engine.guard", "engine.stages"),
                *("engine.second_pass", "engine.inline"),
            ],
            {"ray", "torch", "transformers"},
        ),
    ],
    ids=["the package", "pure modules"],
)
def test_import_leaves_out_what_is_slow(modules: list[str], absent: set[str]) -> None:
    names = [name if name == "xner_ray" else f"xner_ray.{name}" for name in modules]
    code = f"import sys, {', '.join(names)}; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert absent.isdisjoint(ended.stdout.split())


@pytest.mark.slow
def test_every_benchmark_finds_what_it_imports() -> None:
    """One that nobody runs is broken by a move, and nobody hears of it until its figures are asked for."""
    scripts = sorted(str(path) for path in (ROOT / "tests" / "bench").glob("*.py"))
    assert len(scripts) > 20
    code = "import runpy, sys; paths = sys.argv[1:]; del sys.argv[1:]; [runpy.run_path(path) for path in paths]"
    done = subprocess.run([sys.executable, "-c", code, *scripts], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
