"""What every test shares: no network, a Ray of its own, and the place of data that stays outside the repository."""

import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(Path(__file__).parent))  # for fakes.py
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("RAY_ADDRESS", None)

# Ray's token authentication stays on, with a token of this test run and not the one in the home folder.
_token = Path(tempfile.mkdtemp(prefix="xner_ray-tests-")) / "token"
_token.write_text(secrets.token_hex(32))
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(_token))


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
def ray_here() -> Iterator[None]:
    """One local Ray for tests that run in this process."""
    from xner_ray import engine

    with engine.cluster("local"):
        yield
