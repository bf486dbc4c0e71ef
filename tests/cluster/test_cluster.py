"""Everything in cluster/, offline: strict schemas that no misspelt key passes, Ray's own readers of these files, the
versions that they pin. No cloud, Kubernetes, SLURM or Docker: what none of this can show is in cluster/README.md."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from dockerfile_parse import DockerfileParser

from xner_ray import __version__
from xner_ray.engine import pools
from xner_ray.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
SCHEMAS = Path(__file__).parent / "cluster_schemas"
MANIFESTS = {
    "aws.yaml": "ray_up.yaml",
    "gcp.yaml": "ray_up.yaml",
    "kuberay/raycluster.yaml": "kuberay.yaml",
    "kuberay/rayjob.yaml": "kuberay.yaml",
}
KeyPath = tuple[str | int, ...]


def _load(path: Path) -> Any:
    """A YAML file; what an alias shares becomes a copy, so that one place can be changed."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))


def _validator(name: str) -> jsonschema.Draft202012Validator:
    schema = _load(SCHEMAS / MANIFESTS[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


DOCUMENTS = {name: _load(CLUSTER / name) for name in MANIFESTS}
VALIDATORS = {name: _validator(name) for name in MANIFESTS}


def _keys(node: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every key at every depth, in lists too."""
    if isinstance(node, dict):
        for key, child in node.items():
            yield (*path, key)
            yield from _keys(child, (*path, key))
    elif isinstance(node, list):
        for index, child in enumerate(node):
            yield from _keys(child, (*path, index))


def _misspell(document: Any, path: KeyPath) -> Any:
    """A copy of `document` in which the last letter of the key at `path` is another."""
    changed = copy.deepcopy(document)
    node = changed
    for step in path[:-1]:
        node = node[step]
    key = str(path[-1])
    wrong = key[:-1] + ("x" if key[-1] != "x" else "y")
    items = [(wrong if k == key else k, v) for k, v in node.items()]
    node.clear()
    node.update(items)
    return changed


EVERY_KEY = [(name, path) for name, document in DOCUMENTS.items() for path in _keys(document)]


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_valid(name: str) -> None:
    assert [error.message for error in VALIDATORS[name].iter_errors(DOCUMENTS[name])] == []


@pytest.mark.parametrize(
    ("name", "path"), EVERY_KEY, ids=[f"{name}:{'.'.join(map(str, path))}" for name, path in EVERY_KEY]
)
def test_no_key_can_be_misspelt(name: str, path: KeyPath) -> None:
    assert not VALIDATORS[name].is_valid(_misspell(DOCUMENTS[name], path))


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("aws.yaml", ("available_node_types", "gpu_spot", "min_workers"), 1),
        ("aws.yaml", ("available_node_types", "head", "resources", "CPU"), 4),
        ("gcp.yaml", ("available_node_types", "gpu_spot", "node_config", "scheduling", "provisioningModel"), "SPT"),
        ("gcp.yaml", ("max_workers",), "24"),
        ("kuberay/raycluster.yaml", ("spec", "autoscalerOptions", "version"), "v3"),
        ("kuberay/raycluster.yaml", ("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        ("kuberay/rayjob.yaml", ("spec", "rayClusterSpec", "authOptions", "mode"), "disabled"),
        ("kuberay/rayjob.yaml", ("spec", "submissionMode"), "HttpMode"),
    ],
)
def test_a_wrong_value_is_refused(name: str, path: KeyPath, value: Any) -> None:
    document = copy.deepcopy(DOCUMENTS[name])
    node = document
    for step in path[:-1]:
        node = node[step]
    assert node[path[-1]] != value
    node[path[-1]] = value
    assert not VALIDATORS[name].is_valid(document)


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_ray_up_accepts_it_and_fills_in_nothing_of_its_own(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig

    prepared = prepare_config(copy.deepcopy(DOCUMENTS[name]))
    validate_config(prepared)
    commands = [command for key, value in prepared.items() if key.endswith("_commands") for command in value]
    assert not [command for command in commands if re.search(r"\b(pip|conda|apt-get) ", command)]
    assert prepared["available_node_types"]["head"]["max_workers"] == 0

    config = AutoscalingConfig(prepared, skip_content_hash=True)
    images = {group: config.get_docker_config(group)["image"] for group in ("head", "cpu", "gpu_spot")}
    assert images == {"head": _image("cpu"), "cpu": _image("cpu"), "gpu_spot": _image("cuda")}
    assert config.get_docker_config("gpu_spot")["worker_run_options"] == ["--gpus all"]

    for path in [("docker", "image"), ("available_node_types", "cpu", "resources"), ("idle_timeout_minutes",)]:
        with pytest.raises((jsonschema.ValidationError, AssertionError)):
            validate_config(prepare_config(_misspell(DOCUMENTS[name], path)))


def _launched(document: Any, bundle: dict[str, float]) -> list[str] | None:
    """The nodes that Ray's scheduler starts for one request; None where it says that none can hold it."""
    from ray.autoscaler._private.util import prepare_config
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.utils import ResourceRequestUtil

    config = AutoscalingConfig(prepare_config(copy.deepcopy(document)), skip_content_hash=True)
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make(bundle)]),
    )
    reply = ResourceDemandScheduler(None).schedule(request)
    return None if reply.infeasible_resource_requests else sorted(each.instance_type for each in reply.to_launch)


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_memory_of_a_stage_starts_a_node(name: str) -> None:
    """The nodes are at their minimum, and no GPU node has ever been there."""
    document = DOCUMENTS[name]
    stage = load_recipe(
        {
            "input": {"path": "a.conll"},
            "targets": ["swh_Latn"],
            "translate": {"gpus": 1, "memory_gb": 16},
            "align": {"gpus": 1, "memory_gb": 16},
        }
    )
    bundle = pools.bundles(pools.group(stage, pools.assumed("cpus=8,gpus=1,memory_gb=22"), 1))[0]
    assert bundle == {"CPU": 0.95, "GPU": 1, "memory": 16e9}
    assert _launched(document, bundle) == ["cpu", "gpu_spot"]
    assert _launched(document, {**bundle, "memory": 30e9}) is None
    silent = copy.deepcopy(document)
    del silent["available_node_types"]["gpu_spot"]["resources"]["memory"]
    assert _launched(silent, bundle) is None, "what a type does not state it has not"


def test_kuberay_gives_the_autoscaler_what_was_meant() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    cluster = copy.deepcopy(DOCUMENTS["kuberay/raycluster.yaml"])
    assert DOCUMENTS["kuberay/rayjob.yaml"]["spec"]["rayClusterSpec"] == cluster["spec"], "the two drifted apart"
    cluster["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(cluster)  # it validates against ray-schema.json too
    types = {
        name: (entry["min_workers"], entry["max_workers"], entry["resources"]["CPU"], entry["resources"].get("GPU", 0))
        for name, entry in config["available_node_types"].items()
    }
    assert types == {"headgroup": (0, 0, 0, 0), "cpu": (1, 16, 15, 0), "gpu-spot": (0, 8, 7, 1)}
    memory = {name: entry["resources"]["memory"] for name, entry in config["available_node_types"].items()}
    assert memory == {"headgroup": 16 << 30, "cpu": 48 << 30, "gpu-spot": 28 << 30}
    assert config["idle_timeout_minutes"] == 5
    containers = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    images = [group["template"]["spec"]["containers"][0]["image"] for group in containers]
    assert images == [_image("cpu"), _image("cpu"), _image("cuda")]


def test_kuberay_ports_are_ray_s() -> None:
    from ray._private import ray_constants

    head = DOCUMENTS["kuberay/raycluster.yaml"]["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {port["name"]: port["containerPort"] for port in head["ports"]} == {
        "gcs-server": ray_constants.DEFAULT_PORT,
        "dashboard": ray_constants.DEFAULT_DASHBOARD_PORT,
    }


def test_ray_start_knows_every_option() -> None:
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    commands = [
        command
        for name in ("aws.yaml", "gcp.yaml")
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for command in DOCUMENTS[name][key]
        if "ray start" in command
    ]
    assert len(commands) == 4
    script = re.sub(r"\\\n", " ", (CLUSTER / "slurm.sh").read_text(encoding="utf-8"))
    lines = [
        line.split("ray start", 1)[-1] for line in script.splitlines() if re.search(r"ray start|start_node ", line)
    ]
    assert len(lines) >= 4
    used = {option for text in (*commands, *lines) for option in re.findall(r"(?<=\s)--[a-z][a-z-]+", text)}
    spec = DOCUMENTS["kuberay/raycluster.yaml"]["spec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        used |= {f"--{name}" for name in group["rayStartParams"]}
    assert {"--head", "--address", "--num-cpus", "--autoscaling-config"} <= used
    assert used <= known


def test_ray_knows_every_variable() -> None:
    import ray

    package = Path(ray.__file__).parent
    places = ["_private/ray_constants.py", "exceptions.py", "autoscaler/_private/util.py"]
    places += [str(path.relative_to(package)) for path in (package / "_private/authentication").glob("*.py")]
    known = set(re.findall(r"RAY_[A-Za-z_]+", "".join((package / place).read_text() for place in places)))
    used = set()
    for path in _files():
        used |= set(re.findall(r"\bRAY_[A-Za-z_]+", path.read_text(encoding="utf-8")))
    assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_HEAD_IP", "RAY_ADDRESS"} <= used
    assert used <= known


def _files() -> list[Path]:
    return sorted(path for path in CLUSTER.rglob("*") if path.is_file())


def _image(kind: str) -> str:
    return f"xner-ray:{__version__}-{kind}"


def _pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_versions_agree() -> None:
    pins = _pins()
    for path in _files():
        text = path.read_text(encoding="utf-8")
        assert set(re.findall(r"xner-ray:(\d[\w.]*)-c", text)) <= {__version__}, path
        assert set(re.findall(r"\bRay (\d+\.\d+)", text)) <= {pins["ray"].rsplit(".", 1)[0]}, path
        assert set(re.findall(r"torch==([\d.]+\d)", text)) <= {pins["torch"]}, path
    assert DOCUMENTS["kuberay/raycluster.yaml"]["spec"]["rayVersion"] == pins["ray"]


def test_readme_names_every_file() -> None:
    text = (CLUSTER / "README.md").read_text(encoding="utf-8")
    for path in _files():
        assert path.name == "README.md" or path.name in text, path


# The Dockerfile

INSTRUCTIONS = {"COMMENT", "FROM", "ARG", "RUN", "COPY", "ENV", "USER", "WORKDIR"}


@pytest.fixture(scope="module")
def dockerfile(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Instructions and values, in order."""
    copied = tmp_path_factory.mktemp("docker") / "Dockerfile"  # the parser opens its file for writing
    shutil.copy(CLUSTER / "Dockerfile", copied)
    return [(entry["instruction"], entry["value"]) for entry in DockerfileParser(path=str(copied)).structure]


def _values(dockerfile: list[tuple[str, str]], instruction: str) -> list[str]:
    return [value for name, value in dockerfile if name == instruction]


def test_dockerfile_is_made_of_known_instructions(dockerfile: list[tuple[str, str]]) -> None:
    assert {name for name, _ in dockerfile} <= INSTRUCTIONS
    assert next(name for name, _ in dockerfile if name != "COMMENT") == "FROM"


def test_dockerfile_base_is_pinned_and_new_enough(dockerfile: list[tuple[str, str]]) -> None:
    (base,) = _values(dockerfile, "FROM")
    match = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-bookworm", base)
    assert match
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={match[1]}"  # what CI tests


def test_dockerfile_copies_what_exists_and_what_the_build_needs(dockerfile: list[tuple[str, str]]) -> None:
    sources = [source for value in _values(dockerfile, "COPY") for source in value.split()[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    metadata = project["project"]
    needed = {"pyproject.toml", "constraints.txt", metadata["readme"], *metadata["license-files"]}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert [path for path in needed if not any(Path(path).is_relative_to(source) for source in sources)] == []


def test_dockerfile_installs_only_pinned_packages(dockerfile: list[tuple[str, str]]) -> None:
    arguments = dict(value.split("=", 1) for value in _values(dockerfile, "ARG"))
    pips = [value for value in _values(dockerfile, "RUN") if "pip install" in value]
    assert len(pips) == 2
    assert all("--constraint constraints.txt" in value for value in pips)
    assert arguments["TORCH"] == f"torch=={_pins()['torch']}+cpu"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (cuda,) = re.findall(r"--build-arg EXTRAS=(\S+)", (CLUSTER / "Dockerfile").read_text(encoding="utf-8"))
    assert set(arguments["EXTRAS"].split(",")) | set(cuda.split(",")) <= set(extras)
    differing = {"ctranslate2", "ctranslate2-cuda", "llm"}  # cuBLAS and vLLM are for GPUs
    assert set(cuda.split(",")) ^ set(arguments["EXTRAS"].split(",")) == differing
    assert "cluster" in arguments["EXTRAS"].split(",")
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in _pins()}
    for requirement in extras["cluster"] + extras["ctranslate2-cuda"]:
        assert re.sub(r"[-_.]+", "-", re.split(r"[\[<>=]", requirement)[0]).lower() in pinned


@pytest.mark.parametrize(("extras", "compiler"), [("builtin,cluster,llm", True), ("llm", True), ("builtin,lid", False)])
def test_dockerfile_brings_a_compiler_with_vllm(
    dockerfile: list[tuple[str, str]], extras: str, compiler: bool, tmp_path: Path
) -> None:
    (line,) = [value for value in _values(dockerfile, "RUN") if "g++" in value]
    for program in ("apt-get", "rm"):
        (tmp_path / program).write_text(f'#!/bin/sh\necho {program} "$@"\n')
        (tmp_path / program).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "EXTRAS": extras}
    ran = subprocess.run(
        ["/bin/sh", "-f", "-c", line], env=environment, capture_output=True, text=True, check=True
    ).stdout
    wanted = ["apt-get update", "apt-get install --yes --no-install-recommends g++", "rm -rf /var/lib/apt/lists/*"]
    assert ran.splitlines() == (wanted if compiler else [])


def test_dockerfile_has_what_ray_up_needs_and_no_root(dockerfile: list[tuple[str, str]]) -> None:
    runs = " ".join(_values(dockerfile, "RUN"))
    assert {"openssh-client", "rsync"} <= set(shlex.split(runs))
    assert "useradd --uid 1000" in runs
    assert _values(dockerfile, "USER")[-1] == "ray"
    assert {"HOME=/home/ray", "LD_LIBRARY_PATH=/usr/local/nvidia/lib64"} <= set(_values(dockerfile, "ENV"))
    position = [name for name, _ in dockerfile].index("USER")
    assert not {"RUN", "COPY"} & {name for name, _ in dockerfile[position:]}


def test_the_hub_s_token_reaches_every_container_and_stands_in_no_file(dockerfile: list[tuple[str, str]]) -> None:
    """On Kubernetes by a secret that need not be there, with `ray up` by the file of `hf auth login`."""
    ask = "from huggingface_hub import constants; print(constants.HF_TOKEN_PATH)"
    bare = {"HOME": "/home/ray", "PATH": os.environ["PATH"]}
    found = subprocess.run([sys.executable, "-c", ask], env=bare, capture_output=True, text=True, check=True)
    place = found.stdout.strip().replace("/home/ray", "~")
    spec = DOCUMENTS["kuberay/raycluster.yaml"]["spec"]
    containers = [
        container
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
        for container in group["template"]["spec"]["containers"]
    ]
    secret = {"secretRef": {"name": "xner-ray-hub", "optional": True}}
    assert [container["envFrom"] for container in containers] == [[secret]] * 3
    for name in ("aws.yaml", "gcp.yaml"):
        mounts = DOCUMENTS[name]["file_mounts"]
        assert mounts[place] == place
        runs = " ".join(_values(dockerfile, "RUN"))
        owned = shlex.split(runs[runs.index("--owner=ray") :])
        for mount in mounts:
            parts = Path(mount).parent.parts[1:]
            folders = {str(Path("/home/ray", *parts[: depth + 1])) for depth in range(len(parts))}
            assert folders <= set(owned), "Docker would make them root's"
    for path in _files():
        assert not re.search(r"hf_[A-Za-z0-9]{8,}|HF_TOKEN=(?!\"\$HOME)", path.read_text(encoding="utf-8")), path


def test_a_submitted_folder_leaves_out_tokens_and_what_jobs_do_not_need(tmp_path: Path) -> None:
    """`ray job submit --working-dir .` by Ray's own packaging."""
    import zipfile

    from ray._private.runtime_env.packaging import create_package, get_uri_for_directory

    root = tmp_path / "here"
    kept = ["xner_ray/cli.py", "jobs/quickstart.yaml", "jobs/data/europarl.en.conll", "cluster/aws.yaml"]
    left_out = [".git/config", ".venv/bin/python", "runs/a/README.md", ".xner-ray-7/token", "tests/test_cli.py"]
    for name in (*kept, *left_out):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, root)
    archive = tmp_path / "package.zip"
    assert get_uri_for_directory(str(root), include_gitignore=True).startswith("gcs://")
    create_package(str(root), archive, include_gitignore=True)
    with zipfile.ZipFile(archive) as package:
        names = {name for name in package.namelist() if not name.endswith("/")}
    assert names == {*kept, ".rayignore", ".gitignore"}
