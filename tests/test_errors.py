import pickle

import pytest

from xner_ray import errors, extras


def test_every_exception_of_the_tree_has_the_documented_status() -> None:
    lines = [
        line for line in (errors.__doc__ or "").splitlines() if "Error" in line and ("──" in line or "status" in line)
    ]
    assert len(lines) == 12
    for line in lines:
        name = line.replace("│", "").replace("├──", "").replace("└──", "").split()[0]
        status = next(int(word) for word in line.split() if word.isdigit())
        assert getattr(errors, name).exit_status == status, name


def test_missing_extra_says_how_to_install() -> None:
    said = str(extras.missing("spacy", "builtin", "tag.engine: spacy"))
    assert said.startswith("tag.engine: spacy needs the package 'spacy': pip install en-core-web-sm")
    assert str(extras.missing("pandas", "", "to_pandas")) == "to_pandas needs the package 'pandas': pip install pandas"


def test_every_extra_is_installed_without_an_index_of_ours() -> None:
    assert {"builtin", "cluster", "images", "llm"} <= extras.known()
    for extra in extras.known() - {"dev"}:  # dev is for a checkout alone
        assert "xner_ray" not in extras.install(extra)
    assert "'ray[default]>=2.60'" in extras.install("cluster")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("methd", "; did you mean 'method'?"), ("zzz", "; allowed: layer, method")],
)
def test_did_you_mean(value: str, expected: str) -> None:
    assert errors.did_you_mean(value, ["method", "layer"]) == expected


@pytest.mark.parametrize(
    "error",
    [
        errors.NodeError("no GPU", "0a1b", "3"),
        errors.DeviceError("x"),
        errors.MissingExtraError("vllm", "llm", "tag.engine llm"),
        errors.DamageError("run/a", "is missing"),
        errors.FatalError("x"),
    ],
)
def test_exceptions_travel_between_processes(error: errors.XnerError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
