"""What every test shares: no network, a Ray of its own, and the place of data that stays outside the repository."""

import gc
import importlib.util
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from s3_server import S3Server

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent / "helpers"))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("RAY_ADDRESS", None)
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB of each engine
os.environ.setdefault("RAY_worker_niceness", "0")  # nice ones starve beside the other tests of this machine
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]  # tests ask no store but their own
os.environ.update(AWS_ACCESS_KEY_ID="tests", AWS_SECRET_ACCESS_KEY="tests-secret", AWS_EC2_METADATA_DISABLED="true")
os.environ.update(AWS_MAX_ATTEMPTS="3")  # seven take half a minute

# Ray's token authentication stays on, with a token of this test run and not the one in the home folder.
_token = Path(tempfile.mkdtemp(prefix="xner_ray-tests-")) / "token"
_token.write_text(secrets.token_hex(32))
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(_token))


# A shell starts its background jobs deaf to Ctrl-C, and programs that a test interrupts would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# `make check` sets "quick". Timings never gate a test: the machine may be shared.
settings.register_profile("full", deadline=None)
settings.register_profile("quick", settings.get_profile("full"), max_examples=25)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "full"))

# Files of many minutes: pytest-xdist hands out files in this order, and one that came last would leave a core idle.
HEAVY_FIRST = (
    *("engine/test_ray_data.py", "jobs/test_quality.py", "jobs/test_jobs.py", "commands/test_train.py"),
    *("engine/test_faults.py", "commands/test_object_store_run.py", "engine/test_kill_points.py"),
    *("engine/test_ray_jobs.py", "align/test_linking.py", "engine/test_retry.py", "commands/test_sweep.py"),
    *(
        "cluster/test_hosts.py",
        "jobs/test_student_reads.py",
        "cluster/test_slurm.py",
        "commands/test_cross_validate.py",
    ),
    *("engine/test_damage.py", "test_interrupts.py", "commands/test_two_drivers.py"),
)


def _place(item: pytest.Item) -> int:
    file = os.path.relpath(item.path, Path(__file__).parent)
    return HEAVY_FIRST.index(file) if file in HEAVY_FIRST else len(HEAVY_FIRST)


@pytest.hookimpl(tryfirst=True)  # before marks select
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    items.sort(key=_place)
    quick = settings.get_profile("quick") if settings.get_current_profile_name() == "quick" else None
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():  # keywords hold names of folders too
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
        if item.get_closest_marker("llm"):  # keywords have the names of folders too
            item.add_marker("long")
            # In make test-long the engine has to be there
            if importlib.util.find_spec("vllm") is None and os.environ.get("XNER_LLM") != "1":
                item.add_marker(
                    pytest.mark.skip(reason="needs vLLM: make llm, then .venv-llm/bin/python -m pytest -m llm")
                )
        if "long" in item.keywords:
            item.add_marker("slow")
        if "ray_here" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")
        test = getattr(item, "obj", None)
        if quick and hasattr(test, "hypothesis"):
            own = test._hypothesis_internal_use_settings  # of @settings, which no profile overrides
            fewer = settings(own, max_examples=min(own.max_examples, quick.max_examples))
            test._hypothesis_internal_use_settings = fewer


def pytest_collection_finish() -> None:
    """Spare each collection of garbage the half million objects of torch, of its friends and of all tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Tiny products are not worth a second thread, which spins while others want the core: ten-fold on busy ones."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class _Asked:
    """Whether the test at hand, with all its fixtures, asks for Ray."""

    ray = False


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    _Asked.ray = "ray" in item.keywords


@pytest.fixture(scope="session", autouse=True)
def _ray_is_seen_by_who_asks() -> Iterator[None]:
    """Hide a Ray that another test has left running, or the executor would depend on the order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xner_ray.engine.choice.ray_runs", lambda: _Asked.ray and _ray_runs())
        yield


@pytest.fixture(autouse=True)
def _ray_is_declared(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that starts Ray in this process without the fixture `ray_here` or the mark `ray`."""
    before = _ray_runs()
    yield
    if (cluster := sys.modules.get("xner_ray.engine.ray_cluster")) is not None:
        cluster.let_go()
    assert before or "ray" in request.keywords or not _ray_runs(), "this test starts Ray: mark it ray"


def _ray_runs() -> bool:
    return "ray" in sys.modules and sys.modules["ray"].is_initialized()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """`data/` of the folder in XNER_SHARED (default ../shared); skips where it is absent."""
    folder = Path(os.environ.get("XNER_SHARED", ROOT.parent / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"needs evaluation data that may not be published, looked for in {folder} (set XNER_SHARED)")
    return folder


@pytest.fixture(scope="session")
def s3_server() -> Iterator["S3Server"]:
    from s3_server import S3Server

    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: "S3Server") -> Iterator["S3Server"]:
    """An empty S3 server without faults."""
    s3_server.reset()
    yield s3_server
    s3_server.reset()


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """A local Ray for the tests of a file that run in this process. One that nobody uses takes 5 % of a core."""
    from xner_ray.engine import ray_cluster

    with ray_cluster.cluster("local"):
        yield
