import os
import pickle
import subprocess
import sys

import pytest

from xner_ray.storage.hub_settings import HubSettings, with_settings


def test_settings_travel_and_are_not_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_driver")
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    there = pickle.loads(pickle.dumps(HubSettings()))
    assert repr(there) == str(there) == "HubSettings(HF_TOKEN, HF_ENDPOINT)"
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_ENDPOINT", "http://of-the-node")
    assert with_settings(there, os.environ.get, "HF_TOKEN") == "hf_driver"
    assert os.environ["HF_ENDPOINT"] == "http://of-the-node", "a node's own settings stay"
    assert "HF_HUB_OFFLINE" not in os.environ


@pytest.mark.slow
def test_workers_take_them_before_the_hubs_client_reads_them() -> None:
    """It reads the endpoint when it is imported, so what Ray imports to call us must not import it."""
    code = "import sys, xner_ray.engine.ray_data, xner_ray.read.index.build; sys.exit('huggingface_hub' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
