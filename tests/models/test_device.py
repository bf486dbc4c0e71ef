import pytest
import torch

from xner_ray.errors import RetryableError
from xner_ray.models.device import FAKE_GPU, budget_of, device_of, kind_of_device, pick_dtype
from xner_ray.recipe.sections import Align, Runtime, Tag, Translate


def test_a_gpu_is_never_replaced_by_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FAKE_GPU, raising=False)
    half = Runtime(gpus=0.5)
    assert device_of(Runtime()) == kind_of_device(Runtime()) == "cpu"
    assert kind_of_device(half) == "cuda"
    assert device_of(half, n_visible=1) == "cuda"
    with pytest.raises(RetryableError, match=r"gpus is 0\.5, but this worker sees no CUDA device"):
        device_of(half, n_visible=0)


@pytest.mark.parametrize(("value", "device"), [("1", "cpu"), ("0", "cuda"), ("", "cuda")])
def test_fake_gpus_of_a_test_cluster(monkeypatch: pytest.MonkeyPatch, value: str, device: str) -> None:
    monkeypatch.setenv(FAKE_GPU, value)
    assert device_of(Runtime(gpus=1), n_visible=1) == kind_of_device(Runtime(gpus=1)) == device


def test_auto_is_half_precision_on_a_gpu_alone() -> None:
    assert pick_dtype("auto", "cpu") == torch.float32
    assert pick_dtype("auto", "cuda") == torch.float16
    assert pick_dtype("bfloat16", "cuda") == torch.bfloat16
    assert pick_dtype("float16", "cpu") == torch.float16


def test_the_budget_is_the_device_s_unless_it_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FAKE_GPU, raising=False)
    assert [budget_of(one) for one in (Translate(), Align(), Tag())] == [2048, 4096, 4096]
    assert [budget_of(one) for one in (Translate(gpus=0.5), Align(gpus=1))] == [65_536] * 2
    assert budget_of(Align(gpus=1, micro_batch_tokens=99)) == 99
    monkeypatch.setenv(FAKE_GPU, "1")
    assert budget_of(Translate(gpus=1)) == 2048
