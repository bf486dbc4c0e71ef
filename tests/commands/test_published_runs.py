"""The production recipe on models in their published form: from a hub on loopback, from caches, from a mirror."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import ended_after_first_of_three
from hub_server import HubServer, link_builtin
from local_cluster import local_cluster
from published import digests
from published_models import MBERT, NLLB, NLLB_LARGE, mbert, nllb, nllb_large, nllb_local
from s3_server import S3Server

import xner_ray
from xner_ray.errors import RecipeError
from xner_ray.models import hub
from xner_ray.run.folder import RunFolder

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "jobs/nllb.yaml"
SMALL = ["translate.gpus=0", "align.gpus=0", "targets=[swh_Latn]", "engine.unit_rows=3", "input.limit=9"]
# Europarl is no text of the test translator's, and an encoder of random numbers finds few entities.
SMALL += [
    "output.incomplete=keep",
    "output.max_reject_rate=1",
    "match.min_score=0",
    "translate.threads=1",
    "align.threads=1",
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    made = {NLLB: nllb(root / "nllb"), NLLB_LARGE: nllb_large(root / "large"), MBERT: mbert(root / "mbert")}
    made["local nllb"] = nllb_local(root / "local-nllb")
    kept = shutil.ignore_patterns("*.bin", "*.h5", "*.msgpack")
    shutil.copytree(made[MBERT], root / "local-mbert", ignore=kept)
    return made | {"local mbert": root / "local-mbert"}


@pytest.fixture(scope="module")
def expected(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the run publishes with folders of safetensors."""
    run = tmp_path_factory.mktemp("local") / "run"
    report = _project(run, str(folders["local nllb"]), str(folders["local mbert"]))
    assert report["rows"] == {"read": 9, "emitted": 9, "rejected": 0} and report["entities"]["projected"] >= 3
    return _data(run)


@pytest.fixture
def server(tmp_path: Path, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    hub_server = HubServer()
    for name in (NLLB, NLLB_LARGE, MBERT):
        hub_server.commit(name, folders[name])
    hub_server.join(monkeypatch, tmp_path / "cache")
    yield hub_server
    hub_server.close()


def _data(run: Path) -> dict[str, str]:
    """What it publishes but for the card, which names the models."""
    return {name: digest for name, digest in digests(run).items() if name != "README.md"}


def _settings(translator: str | None, encoder: str | None) -> list[str]:
    models = {"translate.model": translator, "align.encoder": encoder}
    return [*SMALL, *(f"{key}={name}" for key, name in models.items() if name)]


def _project(run: Path, translator: str | None = None, encoder: str | None = None, **options: Any) -> Any:
    overrides = [*_settings(translator, encoder), "engine.executor=inline"]
    return xner_ray.project(RECIPE, run, overrides=overrides, **options)


def _begun(run: Path, translator: str | None = None) -> None:
    """Make the first of three units."""
    with ended_after_first_of_three(run):
        _project(run, translator)


@pytest.mark.long
@pytest.mark.parametrize("translator", [NLLB, NLLB_LARGE])
def test_online_and_then_without_the_hub(
    server: HubServer, expected: dict[str, str], translator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _project(tmp_path / "online", translator)
    assert _data(tmp_path / "online") == expected
    assert set(server.sent.values()) == {1}, "fetched twice"
    heavy = {(name, file) for name, file in server.sent if file.endswith((".bin", ".h5", ".msgpack", ".safetensors"))}
    parts = {"pytorch_model.bin"} if translator == NLLB else {f"pytorch_model-0000{n}-of-00003.bin" for n in (1, 2, 3)}
    assert heavy == {*((translator, file) for file in parts), (MBERT, "model.safetensors")}
    began = hub.pin(translator)[0]
    assert RunFolder(str(tmp_path / "online")).recipe().translate.model == began

    _begun(tmp_path / "resumed", translator)
    server.commit(translator, Path(hub.__file__).parent / "tiny-nllb")
    server.close()
    _project(tmp_path / "resumed", translator)
    assert _data(tmp_path / "resumed") == expected
    _project(tmp_path / "new", translator)
    assert _data(tmp_path / "new") == expected
    server.online(monkeypatch, offline=True)
    _project(tmp_path / "offline", began)
    assert digests(tmp_path / "offline") == digests(tmp_path / "online")


def _commands(
    runs: Sequence[Path], settings: Sequence[str], environments: Sequence[Mapping[str, str]], executor: str = "inline"
) -> None:
    """Run the command line in several processes at once, each with an environment of its own."""
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "xner_ray", "project", str(RECIPE), str(run)]
            + [f"--set={setting}" for setting in (*settings, f"engine.executor={executor}")],
            env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", **environment},
            cwd=run.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for run, environment in zip(runs, environments, strict=True)
    ]
    said = [process.communicate(timeout=600)[0] for process in started]
    assert [process.returncode for process in started] == [0] * len(started), "\n".join(said)


def _machine(folder: Path, endpoint: str, **more: str) -> dict[str, str]:
    """The environment of a machine whose caches hold no model."""
    link_builtin(folder / "ours")
    own = {"HF_HOME": str(folder / "hub"), "XNER_RAY_CACHE": str(folder / "ours"), "HF_ENDPOINT": endpoint}
    return own | more


@pytest.mark.long
def test_two_machines_with_a_mirror_that_never_saw_the_hub(
    server: HubServer, expected: dict[str, str], s3: S3Server, tmp_path: Path
) -> None:
    places = [hub.mirror(hub.pin(name)[0], s3.uri("bucket/models")) for name in (NLLB, MBERT)]
    server.close()
    runs = [tmp_path / name for name in ("one", "two")]
    nobody = "http://127.0.0.1:9"
    machines = [_machine(run.with_name(f"{run.name}-cache"), nobody, HF_HUB_OFFLINE="0") for run in runs]
    _commands(runs, _settings(*(place.partition("#")[0] for place in places)), machines)
    assert [_data(run) for run in runs] == [expected, expected]
    for name in ("pytorch_model.bin", "tf_model.h5"):
        assert not [path for path in s3.objects if path.endswith(name)]
    assert not any(list((tmp_path / f"{name}-cache").glob("hub/**/*.json")) for name in ("one", "two"))


@pytest.mark.long
def test_two_processes_of_one_machine_convert_once(server: HubServer, expected: dict[str, str], tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("one", "two")]
    machine = _machine(tmp_path / "machine", server.url, HF_HUB_OFFLINE="0")
    _commands(runs, _settings(NLLB, MBERT), [machine, machine])
    assert [_data(run) for run in runs] == [expected, expected]
    made = [path.name for path in (tmp_path / "machine/ours/models").iterdir() if path.is_dir()]
    assert made == [f"{hub.pin(NLLB)[1]}-safetensors-1"]


@pytest.mark.long
@pytest.mark.ray
def test_workers_of_ray_find_what_the_driver_has_fetched(
    server: HubServer, expected: dict[str, str], tmp_path: Path
) -> None:
    """A private hub: token and endpoint come by the environment, and are written nowhere."""
    server.private |= {NLLB, MBERT}
    server.gated |= {NLLB, MBERT}
    machine = _machine(tmp_path / "machine", server.url, HF_HUB_OFFLINE="0", HF_TOKEN=server.may)
    _commands([tmp_path / "run"], _settings(NLLB, MBERT), [machine], "ray")
    assert _data(tmp_path / "run") == expected
    assert set(server.sent.values()) == {1}
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size < 1 << 20]
    assert len(written) > 20 and not [path for path in written if server.may.encode() in path.read_bytes()]


@pytest.mark.long
@pytest.mark.ray
def test_nodes_of_a_cluster_take_the_drivers_copy_and_ask_no_hub(
    server: HubServer, expected: dict[str, str], s3: S3Server, tmp_path: Path
) -> None:
    """The driver has a token and the hub; the nodes have neither, an empty cache, and the store."""
    server.gated |= {NLLB, MBERT}
    nodes = _machine(tmp_path / "node", "http://127.0.0.1:9", HF_HUB_OFFLINE="1", PYTHONPATH=str(ROOT))
    run = s3.uri("bucket/run")
    with local_cluster(cpus=2, env=nodes) as cluster:
        driver = _machine(tmp_path / "driver", server.url, HF_HUB_OFFLINE="0", HF_TOKEN=server.may)
        given = [f"--set={setting}" for setting in (*_settings(NLLB, MBERT), "align.cpus=0.5", "match.cpus=0.3")]
        ended = subprocess.run(
            [sys.executable, "-m", "xner_ray", "project", str(RECIPE), run, *given],
            env={**cluster.env, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", **driver},
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    published = {
        path.removeprefix("/bucket/run/"): hashlib.sha256(stored[0]).hexdigest()
        for path, stored in s3.objects.items()
        if path.startswith(("/bucket/run/data/", "/bucket/run/rejects/"))
    }
    assert published == expected
    assert set(server.sent.values()) == {1}
    copied = {Path(path).name for path in s3.objects if "/_run/models/" in path}
    assert {"model.safetensors", "SHA256SUMS", "sentencepiece.bpe.model"} <= copied
    assert not [name for name in copied if name.endswith(".bin")]
    assert not any(server.may.encode() in stored[0] for stored in s3.objects.values())


@pytest.mark.slow
def test_weights_that_are_none_are_the_recipes_fault(
    server: HubServer, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Said once, by the driver, before a worker has loaded anything."""
    shutil.copytree(folders[NLLB], tmp_path / "hostile")
    torch.save({"a": torch.ones(1), "b": os.mkdir}, tmp_path / "hostile" / "pytorch_model.bin")
    server.commit("owner/hostile", tmp_path / "hostile")
    with pytest.raises(RecipeError, match=r"pytorch_model.bin is damaged, or holds something other than") as error:
        _project(tmp_path / "run", "owner/hostile")
    assert "\n" not in str(error.value) and "node" not in str(error.value)
    (tmp_path / "hostile" / "pytorch_model.bin").unlink()
    server.commit("owner/hostile", tmp_path / "hostile")
    for command in (xner_ray.plan, lambda recipe, overrides: _project(tmp_path / "other", "owner/hostile")):
        with pytest.raises(
            RecipeError, match=r"^model 'owner/hostile@\w+': .* it has no weights; name another revision"
        ):
            command(RECIPE, overrides=_settings("owner/hostile", None))
    assert not (tmp_path / "other").exists()
