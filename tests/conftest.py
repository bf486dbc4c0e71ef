"""What every test shares: no network, a Ray of its own, and the place of data that stays outside the repository."""

import os
import secrets
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
for _name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[_name]  # tests ask no store but their own
os.environ.update(AWS_ACCESS_KEY_ID="tests", AWS_SECRET_ACCESS_KEY="tests-secret", AWS_EC2_METADATA_DISABLED="true")
os.environ.update(AWS_MAX_ATTEMPTS="3")  # seven take half a minute

# Ray's token authentication stays on, with a token of this test run and not the one in the home folder.
_token = Path(tempfile.mkdtemp(prefix="xner_ray-tests-")) / "token"
_token.write_text(secrets.token_hex(32))
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(_token))


settings.register_profile("shared machine", deadline=None)  # timings never gate a test
settings.load_profile("shared machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    import torch

    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


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


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """One local Ray for tests that run in this process."""
    from xner_ray.engine import ray_cluster

    with ray_cluster.cluster("local"):
        yield
