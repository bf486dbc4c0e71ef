"""Optional packages: what each extra brings, as the package's own metadata says, and errors where one is missing."""

from __future__ import annotations

import importlib.util
import shlex
from typing import TYPE_CHECKING

from xner_ray.errors import MissingExtraError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_PACKAGE = "xner_ray"

# What reads metadata is imported where it is used: every command imports this file, and few need it.


def known() -> set[str]:
    """Return the names of the extras."""
    from importlib import metadata

    return set(metadata.metadata(_PACKAGE).get_all("Provides-Extra") or ())


def requirements(extra: str) -> list[Requirement]:
    """Return what an extra adds to the package; nothing if the package is not installed or has no such extra."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        lines = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []
    given = [Requirement(line) for line in lines]
    found = [one for one in given if one.marker and not one.marker.evaluate() and one.marker.evaluate({"extra": extra})]
    for one in found:
        one.marker = None
    return found


def install(extra: str) -> str:
    """Return the command that installs an extra.

    It names the packages themselves, so that it works wherever xner_ray came from: a checkout, a wheel, an index.

    >>> install("lid")
    "pip install 'py3langid>=0.4'"
    """
    found = [str(one) for one in requirements(extra)]
    return shlex.join(["pip", "install", *(found or [f"{_PACKAGE}[{extra}]"])])


def missing(package: str, extra: str, purpose: str) -> MissingExtraError:
    """Return the error of a package that is not installed. extra: which of ours has it; "" if none has."""
    return MissingExtraError(package, install(extra) if extra else f"pip install {package}", purpose)


def require(package: str, extra: str, purpose: str) -> None:
    """Raise MissingExtraError unless a package is installed; imports nothing of it. extra: as of `missing`."""
    if importlib.util.find_spec(package) is None:
        raise missing(package, extra, purpose)
