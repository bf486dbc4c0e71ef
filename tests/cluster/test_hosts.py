"""Runs on hosts of their own, in network namespaces: faults between hosts, jobs from outside, models from a mirror.

`make chaos` has every fault alone, with the longer ones, and XNER_RAY_HOST_FAULTS of them in a row, in the order of
XNER_RAY_SEED. What was seen is in docs/faults.md.
"""

import hashlib
import os
import random
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import hosts
import hosts_runs
import pytest
from hosts_runs import FAULTS, bears, cut, drained, job, loses, prepare, project, published
from hub_server import HubServer
from published import digests
from published_models import MBERT, NLLB, mbert, nllb, nllb_local
from ray_hosts import RayHosts, ray_hosts
from s3_server import S3Server

import xner_ray
from xner_ray.models import hub

WHY_NOT = hosts.why_not()
pytestmark = [pytest.mark.ray, pytest.mark.skipif(WHY_NOT is not None, reason=WHY_NOT or "")]
ROOT = Path(__file__).parents[2]
N_FAULTS = int(os.environ.get("XNER_RAY_HOST_FAULTS", "20"))
SEED = int(os.environ.get("XNER_RAY_SEED", "0"))


@pytest.fixture(scope="module")
def started() -> Iterator[RayHosts]:
    # Patience with the store as users have it, not that of the other tests
    with ray_hosts(cpus=1, env={"AWS_MAX_ATTEMPTS": "7"}) as cluster:
        prepare(cluster)
        yield cluster


@pytest.fixture
def cluster(started: RayHosts) -> RayHosts:
    """Return the cluster, without what the last test has left of its faults."""
    started.mend()
    return started


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a run in one process publishes, from the same files on a disk."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for name, data in hosts_runs.input_files().items():
        (folder / name).write_bytes(data)
    report = xner_ray.project(
        hosts_runs.recipe(lambda name: str(folder / name)), folder / "run", overrides=["engine.executor=inline"]
    )
    assert report["rows"] == {"read": 24, "emitted": 24, "rejected": 0} and report["entities"]["projected"] > 20
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    found = {path.relative_to(folder / "run").as_posix(): path.read_bytes() for path in files}
    return {name: data for name, data in found.items() if name.startswith(("data/", "rejects/"))}


@pytest.mark.long
def test_a_job_from_outside_whose_worker_loses_packets_and_is_cut_off(
    cluster: RayHosts, expected: dict[str, bytes]
) -> None:
    """It is submitted from a host that is none of the cluster's. 5 % of packets are lost; no packet comes for 10 s."""

    def fault(cluster: RayHosts) -> None:
        cut(10)(cluster)
        loses(5)(cluster)

    print(bears(cluster, "job", fault, expected, start=lambda: job(cluster, "job", "work", "xner-ray")))


@pytest.mark.long
def test_a_spot_notice_and_the_end_of_the_host(cluster: RayHosts, expected: dict[str, bytes]) -> None:
    print(bears(cluster, "drained", lambda cluster: drained(cluster, 3), expected))


@pytest.mark.long
def test_two_hosts_with_a_mirror_that_never_saw_the_hub(
    cluster: RayHosts, s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`jobs/nllb.yaml` in the published layout of its models: the same data as from folders of safetensors."""
    kept = shutil.ignore_patterns("*.bin", "*.h5", "*.msgpack")
    published_models = {NLLB: nllb(tmp_path / "nllb"), MBERT: mbert(tmp_path / "mbert")}
    shutil.copytree(published_models[MBERT], tmp_path / "local-mbert", ignore=kept)
    settings = ["translate.gpus=0", "align.gpus=0", "targets=[swh_Latn]", "engine.unit_rows=3", "input.limit=12"]
    # Europarl is no text of the test translator's, and an encoder of random numbers finds few entities
    settings += ["output.incomplete=keep", "output.max_reject_rate=1", "match.min_score=0"]
    settings += ["translate.threads=1", "align.threads=1"]
    local = [f"translate.model={nllb_local(tmp_path / 'local-nllb')}", f"align.encoder={tmp_path / 'local-mbert'}"]
    report = xner_ray.project(
        ROOT / "jobs/nllb.yaml", tmp_path / "run", overrides=[*settings, *local, "engine.executor=inline"]
    )
    assert report["rows"]["emitted"] == 12 and report["entities"]["projected"] >= 3

    server = HubServer()
    try:
        for name, folder in published_models.items():
            server.commit(name, folder)
        server.join(monkeypatch, tmp_path / "cache")
        mirrors = [hub.mirror(hub.pin(name)[0], s3.uri("bucket/models")) for name in (NLLB, MBERT)]
    finally:
        server.close()
    with cluster.store.lock:  # which is not to be reached from here
        cluster.store.objects |= {path: held for path, held in s3.objects.items() if "/models/" in path}
    here = s3.endpoint, cluster.store.endpoint
    models = [mirror.partition("#")[0].replace(*here) for mirror in mirrors]
    settings += [f"translate.model={models[0]}", f"align.encoder={models[1]}", "translate.workers=2", "align.workers=2"]
    settings += ["translate.cpus=0.6", "align.cpus=0.6", "match.cpus=0.1"]
    command = [sys.executable, "-m", "xner_ray", "project", str(ROOT / "jobs/nllb.yaml"), cluster.uri("bucket/nllb")]
    nobody = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0", "RAY_ADDRESS": cluster.address}
    status, said = cluster.head.run(
        [*command, *(f"--set={setting}" for setting in settings)], cwd=ROOT, **cluster.env, **nobody
    )
    assert status == 0, said
    found = {name: hashlib.sha256(data).hexdigest() for name, data in published(cluster, "nllb").items()}
    assert found == {name: digest for name, digest in digests(tmp_path / "run").items() if name != "README.md"}
    for host in cluster.workers:
        assert len(list(host.folder.glob("cache/**/model.safetensors"))) == 2, f"{host.name} has fetched other models"
        assert not list(host.folder.glob("hub/**/*.json"))


@pytest.mark.long
def test_the_head_dies_and_a_cluster_without_the_package_goes_on(cluster: RayHosts, expected: dict[str, bytes]) -> None:
    """The driver is on another host, and Ray ends it. The new hosts have the package from a job's checkout alone."""
    patience = {"RAY_gcs_rpc_server_reconnect_timeout_s": "10"}  # 60 by default
    driver = project(cluster, "head", cluster.workers[1], **patience)
    driver.wait_for_parts(4)
    cluster.head.die()
    assert driver.end() == 1
    assert "Ray has lost the cluster's head" in driver.message() and "the same command resumes" in driver.message()
    assert "/bucket/head/_run/SEALED" not in cluster.store.objects
    done = cluster.parts("head")
    with cluster.store.lock:  # the lease ends after 90 seconds; `make chaos` waits for it
        del cluster.store.objects["/bucket/head/_run/LOCK"]

    for host in cluster.nodes:
        host.package = False
    try:
        cluster.restart()
        refused = job(cluster, "head", "work", "python", "-m", "xner_ray")
        assert refused.end() == 1 and "No module named xner_ray" in refused.said(), refused.said()
        resumed = job(cluster, "head", "checkout", "python", "-m", "xner_ray")
        assert resumed.end() == 0, resumed.said()
    finally:
        for host in cluster.nodes:
            host.package = True
        cluster.doubtful |= {*cluster.nodes}
    assert published(cluster, "head") == expected
    assert done <= cluster.parts("head")


@pytest.mark.chaos
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", FAULTS)
def test_each_fault(cluster: RayHosts, expected: dict[str, bytes], name: str) -> None:
    run = "each-" + hashlib.sha256(name.encode()).hexdigest()[:8]
    # A driver that dies with its host can say nothing
    host = cluster.workers[1] if name == "the head dies" else cluster.head
    seen = bears(cluster, run, FAULTS[name], expected, start=lambda: project(cluster, run, host))
    print(f"\n{name}: {seen}")


@pytest.mark.chaos
@pytest.mark.timeout(7200)
def test_random_faults_in_a_row(cluster: RayHosts, expected: dict[str, bytes]) -> None:
    order = random.Random(SEED)
    names = [name for name in FAULTS if "120 s" not in name]
    for number in range(N_FAULTS):
        name, after = order.choice(names), order.randint(1, 16)
        seen = bears(cluster, f"row-{number}", FAULTS[name], expected, after=after)
        print(f"\n{number + 1:2}. {name}, at {after} of 24 units: {seen} (seed {SEED})", flush=True)
