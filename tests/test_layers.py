"""One way of imports: a file imports only from files above it in the README's tree, and three files import ray.

And what docstrings show is what their functions give.
"""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "xner_ray"


def _tree() -> list[str]:
    """Files of the package in the order of the README's tree."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("xner_ray/\n", 1)[1].split("jobs/\n", 1)[0]
    return re.findall(r"^  (\S+\.py|\S+/)", block, flags=re.M)


def _imports(path: Path) -> set[str]:
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: import by the full name"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _room(path: Path) -> str:
    """The name under which the README's tree lists a file."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] + "/" if len(relative.parts) > 1 else relative.name


def test_readme_tree_lists_every_file() -> None:
    rooms = {_room(path) for path in PACKAGE.rglob("*.py")}
    assert rooms | {"models/"} == set(_tree())


def test_imports_go_one_way() -> None:
    order = {room: number for number, room in enumerate(_tree())}
    for path in PACKAGE.rglob("*.py"):
        mine = _room(path)
        if mine == "__init__.py":
            continue  # opens everything, on first use
        for name in _imports(path):
            parts = name.split(".")
            if parts[0] != "xner_ray" or len(parts) == 1 or parts[1] == "__version__":
                continue
            other = f"{parts[1]}.py" if f"{parts[1]}.py" in order else f"{parts[1]}/"
            assert other == mine or order[other] < order[mine], f"{mine} imports {name}, which stands below it"


def test_only_three_files_import_ray() -> None:
    users = {
        _room(path) for path in PACKAGE.rglob("*.py") if any(n == "ray" or n.startswith("ray.") for n in _imports(path))
    }
    assert users == {"engine.py", "ray_cluster.py", "ray_train.py"}


def test_no_file_is_above_400_lines() -> None:
    long = {p.name: n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text(encoding="utf-8").splitlines())) > 400}
    assert not long


def test_pure_modules_import_without_torch_and_ray() -> None:
    import subprocess
    import sys

    code = (
        "import sys, xner_ray, xner_ray.cli, xner_ray.match, xner_ray.inspecting, xner_ray.envelope, "
        "xner_ray.guard, xner_ray.stages, xner_ray.refining; "
        "heavy = {'ray', 'torch', 'transformers'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


_EXAMPLES = [path.relative_to(ROOT) for path in sorted(PACKAGE.rglob("*.py")) if ">>>" in path.read_text("utf-8")]


@pytest.mark.parametrize("path", _EXAMPLES, ids=str)
def test_examples_of_docstrings(path: Path) -> None:
    module = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    found = doctest.testmod(importlib.import_module(module))
    assert found.attempted and not found.failed
