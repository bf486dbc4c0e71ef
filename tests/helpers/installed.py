"""A distribution that is installed by its metadata alone: for checks that look at what is there, and import nothing."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest


def installed(patch: pytest.MonkeyPatch, folder: Path, name: str, version: str, package: str) -> None:
    """Let `metadata.version` and `find_spec` find a distribution of one package, in place of one that is there."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    patch.syspath_prepend(str(folder))
    module = ModuleType(package)
    module.__spec__ = ModuleSpec(package, None)
    patch.setitem(sys.modules, package, module)
