"""Measure and draw the house: its floors, its statements, its file tree.

    python tests/house.py floors [--all]    how many modules stand upon one another, and the longest way down
    python tests/house.py statements        how many statements the package has
    python tests/house.py tree              the file tree of CONTRIBUTING.md, from the first lines of docstrings
    python tests/house.py tree --write      the same, into CONTRIBUTING.md

A module stands one floor above the highest module that it imports. Imports inside functions count; imports for type
checkers do not. A cycle is an error.
"""

import ast
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "xner_ray"
ORDER = (  # from the ground up
    *[
        "errors",
        "extras",
        "interrupts",
        "version",
        "defaults",
        "stage",
        "data",
        "storage",
        "recipe",
        "run",
        "models",
        "evaluate",
        "sizing",
        "read",
        "write",
        "translate",
    ],
    *[
        "tag",
        "align",
        "match",
        "vision",
        "report",
        "engine",
        "train",
        "adapt",
        "commands",
        "api",
        "cli_input",
        "cli_output",
        "cli_opening",
        "cli",
        "__main__",
    ],
)
ELSEWHERE = {
    "jobs/": "recipes, sample data (data/), and how the tiny models were made (tiny_nllb/, tiny_clip/)",
    "cluster/": "the image, and files for ray up, KubeRay and SLURM",
    "tests/": "a folder a package; helpers/ for what tests share, bench/ for benchmarks, gpu/ for a machine with a GPU",
}


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """Return the modules of the package that a module imports, at run time and anywhere in it."""
    tree = ast.parse(MODULES[name].read_text("utf-8"))
    for_types = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module or "")
    return {other for other in found if other in MODULES and other != name}


def floors() -> dict[str, int]:
    """Return the floor of every module, from 1. The package's own `__init__` is the door and stands on none."""
    on_the_way: list[str] = []

    @cache
    def floor(name: str) -> int:
        if name in on_the_way:
            raise SystemExit(f"cycle: {' -> '.join([*on_the_way[on_the_way.index(name) :], name])}")
        on_the_way.append(name)
        below = [floor(other) for other in imports(name) if other != PACKAGE.name]
        on_the_way.pop()
        return 1 + max(below, default=0)

    return {name: floor(name) for name in MODULES if name != PACKAGE.name}


def statements() -> int:
    """Return the number of statements of the package; docstrings are statements too."""
    trees = (ast.parse(path.read_text("utf-8")) for path in MODULES.values())
    return sum(isinstance(node, ast.stmt) for tree in trees for node in ast.walk(tree))


def tree() -> str:
    """Return the file tree, a line a package and a line a file, each with the first line of its docstring."""
    lines = ["xner_ray/"]

    def add(name: str, indent: int, path: Path) -> None:
        said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
        assert said, f"{path} has no docstring"
        lines.append(f"{' ' * indent}{name:<{26 - indent}} {said.splitlines()[0].rstrip('.')}")

    add("__init__.py", 2, PACKAGE / "__init__.py")
    for name in ORDER:
        if (path := PACKAGE / f"{name}.py").exists():
            add(path.name, 2, path)
        elif (folder := PACKAGE / name).is_dir():
            add(f"{name}/", 2, folder / "__init__.py")
            for path in sorted(folder.rglob("*.py")):
                inner = path.relative_to(folder)
                if inner.name != "__init__.py":
                    add(str(inner), 4, path)
                elif path.parent != folder:
                    add(f"{inner.parent}/", 4, path)
    return "\n".join([*lines, *(f"{name:<26} {text}" for name, text in ELSEWHERE.items())])


def write_tree() -> None:
    """Put the file tree between the last two fences of CONTRIBUTING.md."""
    path = ROOT / "CONTRIBUTING.md"
    before = path.read_text("utf-8").rpartition("```")[0].rpartition("```")[0]
    path.write_text(f"{before}```\n{tree()}\n```\n", "utf-8")


def _print_floors(every: bool) -> None:
    found = floors()
    arrows = sum(len(imports(name) - {PACKAGE.name}) for name in found)
    for number in range(max(found.values()), 0, -1) if every else ():
        names = sorted(name.removeprefix("xner_ray.") for name, floor in found.items() if floor == number)
        print(f"{number:3}  {'  '.join(names)}")
    chain = [max(found, key=lambda name: found[name])]
    while found[chain[-1]] > 1:
        chain.append(max(imports(chain[-1]) - {PACKAGE.name}, key=lambda name: found[name]))
    print(f"{len(found)} modules, {max(found.values())} floors, {arrows} arrows")
    print("the longest way down: " + " > ".join(name.removeprefix("xner_ray.") for name in chain))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["floors", *more]:
            _print_floors("--all" in more)
        case ["statements"]:
            print(statements())
        case ["tree"]:
            print(tree())
        case ["tree", "--write"]:
            write_tree()
        case _:
            raise SystemExit(__doc__)
