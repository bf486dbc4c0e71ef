"""What a library raises when a device fails: is its memory full, is the device sick, or is it neither.

After an error of CUDA that is not about memory (an illegal access, an assertion, ECC, a lost bus) nothing works any
more in the same process, whatever row it is given: the process has to end, and another one may do better. Most of these
errors come late, at another call than the one that caused them.
"""

from __future__ import annotations

import errno
import gc
import re
import sys
from typing import Literal, TypeVar

E = TypeVar("E", bound=Exception)
_MEMORY = re.compile(r"out of memory|STATUS_ALLOC_FAILED|DefaultCPUAllocator: (?:can't allocate|not enough) memory")
_SICK = re.compile(
    r"(?:CUDA|HIP)(?: driver)? error|CUDA failed with error|CUBLAS_STATUS_|CUDNN_STATUS_|cuDNN error|NCCL error|"
    r"device-side assert|uncorrectable ECC|\bXid\b"
)

_OF_A_DISK = frozenset({errno.EIO, errno.ENOMEM, errno.ENXIO, errno.ESTALE, errno.EREMOTEIO, errno.ETIMEDOUT})


def of_this_machine(error: BaseException) -> bool:
    """Return whether memory, a device or a disk has failed, which says nothing of what was to be read."""
    of_a_disk = isinstance(error, OSError) and error.errno in _OF_A_DISK
    return of_a_disk or isinstance(error, MemoryError) or fault_of(error) is not None


def fault_of(error: BaseException) -> Literal["memory", "device"] | None:
    """Return what an exception says of the device; None if it says nothing.

    torch says it by its types where it can, CTranslate2 and cuBLAS by their texts alone.
    """
    torch = sys.modules.get("torch")  # who has no model must not pay for its import
    if torch is not None and isinstance(error, torch.OutOfMemoryError):
        return "memory"
    if not isinstance(error, RuntimeError):
        return None
    if _MEMORY.search(str(error)):
        return "memory"
    if (torch is not None and isinstance(error, torch.AcceleratorError)) or _SICK.search(str(error)):
        return "device"
    return None


def probe() -> str | None:
    """Return what is wrong with the device of this process, as far as it answers; None if nothing is, or it has none.

    Waits for what the device still has to do, and so for the errors that come late.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        return str(error)
    return None


def free() -> None:
    """Give memory back that nothing holds any more: to the device, or for other sizes."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def without_frames(error: E) -> E:
    """Return an exception that holds on to no frame, whose tensors would else live as long as it does."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        one = left.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            one.__traceback__ = None
            left += [one.__cause__, one.__context__]
    return error
