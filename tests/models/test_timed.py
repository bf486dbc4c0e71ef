import pytest

from xner_ray.models import device
from xner_ray.models.device import Timed


def test_blocks_add_up_failed_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([10.0, 11.5, 20.0, 20.25])
    monkeypatch.setattr(device.time, "perf_counter", lambda: next(now))
    model, other = Timed(), Timed()
    with model.in_model():
        pass
    with pytest.raises(MemoryError), model.in_model():
        raise MemoryError
    assert (model.model_seconds, other.model_seconds) == (1.75, 0.0)
