"""How a worker loads its stages: what is tried again, and what is the device's or the node's fault."""

from collections.abc import Callable

import pytest
import torch

from xner_ray.engine.worker import load_patiently
from xner_ray.errors import DeviceError, RecipeError, RetryableError, ServiceError, XnerError
from xner_ray.stage import Stage

SICK = torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered")
FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.29 GiB")


@pytest.mark.parametrize(
    ("error", "kind", "calls"),
    [
        (SICK, DeviceError, 1),  # nothing works in this process any more
        (FULL, DeviceError, 3),
        (OSError(5, "Input/output error"), RetryableError, 3),
        (ServiceError("the hub does not answer"), ServiceError, 3),
        (RecipeError("translate.model 'm' cannot be used"), RecipeError, 1),
    ],
)
def test_loading_is_tried_again_where_that_may_help(error: Exception, kind: type[XnerError], calls: int) -> None:
    asked: list[str] = []
    with pytest.raises(XnerError) as caught:
        load_patiently(["align"], _raising(error, asked), (0, 0))
    assert type(caught.value) is kind and len(asked) == calls
    assert str(error) in str(caught.value)


def _raising(error: Exception, asked: list[str]) -> Callable[[str], Stage]:
    def load(name: str) -> Stage:
        asked.append(name)
        raise error

    return load
