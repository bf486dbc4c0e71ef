"""What the distributions of every extra require: `python tests/requires.py` asks pip, and writes requires.txt and pins.

pip downloads all of them for that (3 minutes, 2 GB), so it is run where requirements change; tests/test_extras.py reads
what it wrote. All is that of CPython 3.11 on Linux, x86_64, and of the build of torch that pip finds: its CUDA build
requires CUDA's own packages besides.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
FOUND = Path(__file__).with_name("requires.txt")
_OURS = "xner-ray"
_ENVIRONMENT = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.14",
    "python_version": "3.11",
    "sys_platform": "linux",
}

Required = dict[str, tuple[str, list[Requirement]]]
"""By the distribution's name: its version, and what it requires."""


def extras() -> dict[str, list[Requirement]]:
    """Return what each of our extras requires, the package's own requirements included; "" is none of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = project["optional-dependencies"]
    found: dict[str, list[Requirement]] = {}
    for name in ("", *own):
        asked = [*map(Requirement, project["dependencies"]), *map(Requirement, own.get(name, ()))]
        ours = [one for one in asked if canonicalize_name(one.name) == _OURS]
        inner = [Requirement(line) for one in ours for extra in sorted(one.extras) for line in own[extra]]
        found[name] = [one for one in asked if one not in ours] + inner
    return found


def pins() -> dict[str, str]:
    """Return the version of each distribution in constraints.txt, by its name."""
    lines = [line for line in CONSTRAINTS.read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def holding(lines: Iterable[str], asked: Iterable[str] = ()) -> list[Requirement]:
    """Return the requirements whose markers hold, without these; asked: extras of the distribution."""
    found: dict[str, Requirement] = {}
    for one in map(Requirement, lines):
        given = [_ENVIRONMENT | {"extra": extra} for extra in ("", *asked)]
        if one.marker is None or any(one.marker.evaluate(environment) for environment in given):
            one.marker = None
            found[str(one)] = one
    return [found[name] for name in sorted(found, key=str.lower)]


def closure(asked: Iterable[Requirement], required: Mapping[str, tuple[str, list[Requirement]]]) -> list[Requirement]:
    """Return every requirement of what is asked for, of what that requires, and so on."""
    found: dict[str, Requirement] = {}
    waiting = list(asked)
    while waiting:
        one = waiting.pop()
        if str(one) not in found:
            found[str(one)] = one
            waiting += required.get(canonicalize_name(one.name), ("", []))[1]
    return list(found.values())


def read() -> Required:
    """Return what requires.txt holds."""
    found: Required = {}
    for block in re.split(r"\n(?=\S)", FOUND.read_text().strip()):
        head, *rest = block.splitlines()
        if not head.startswith("#"):
            name, version = head.split("==")
            found[canonicalize_name(name)] = version, [Requirement(line.strip()) for line in rest]
    return found


def main() -> None:
    """Resolve all extras together, and write constraints.txt and requires.txt."""
    asked = ",".join(name for name in extras() if name)
    with tempfile.TemporaryDirectory() as folder:
        report = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
        command += ["--constraint", str(CONSTRAINTS), "--report", str(report), f"{ROOT}[{asked}]"]
        if len(sys.argv) == 1:
            subprocess.run(command, check=True)
        chosen = {
            canonicalize_name(one["metadata"]["name"]): one["metadata"]
            for one in json.loads(report.read_text())["install"]
        }
    wanted: dict[str, set[str]] = {name: set() for name in chosen}
    for _ in chosen:  # an extra may ask for another distribution's extra
        lines = [one for reqs in extras().values() for one in reqs]
        lines += [one for name, meta in chosen.items() for one in holding(meta.get("requires_dist", ()), wanted[name])]
        before = {name: set(asked) for name, asked in wanted.items()}
        for one in lines:
            wanted.setdefault(canonicalize_name(one.name), set()).update(one.extras)
        if before == wanted:
            break
    blocks, pinned = [], []
    for name, meta in sorted(chosen.items()):
        if name != _OURS:
            version = meta["version"].partition("+")[0]
            pinned.append(f"{meta['name']}=={version}")
            lines = [f"    {one}" for one in holding(meta.get("requires_dist", ()), sorted(wanted[name]))]
            blocks.append("\n".join([f"{name}=={version}", *lines]))
    comments = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("#")]
    CONSTRAINTS.write_text("\n".join([*comments, *sorted(pinned, key=str.lower)]) + "\n")
    FOUND.write_text(
        "# Made by tests/requires.py: each distribution of an extra, and what it requires\n" + "\n".join(blocks) + "\n"
    )


if __name__ == "__main__":
    main()
