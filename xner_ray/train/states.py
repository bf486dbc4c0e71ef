"""States of frozen layers, computed once: a store that is bounded, in memory and then on the local disk.

A state is the same to the bit whether it is kept in memory, read from the disk or computed again, with whatever other
rows (`Student.states`), so that a training does not depend on what the store holds.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from hashlib import blake2b

import numpy as np
import torch
from torch import Tensor

from xner_ray.models.windows import Ints, Windows
from xner_ray.train.network import Student

_Place = tuple[int, tuple[int, ...], torch.dtype]  # offset, shape and type of a state in the file


class FrozenStateCache:
    """States of frozen layers by a row's subwords, up to a number of bytes; what does not fit is computed again.

    Students may share it: those with the same frozen layers share their states.
    """

    def __init__(self, n_bytes: float, disk_bytes: float = 0.0) -> None:
        """n_bytes: in memory. disk_bytes: beyond these in a file without a name, which ends with the process.

        Of the free space of the disk at most half is taken.
        """
        self._left = n_bytes
        self._found: dict[bytes, Tensor] = {}
        self._hand: Mapping[bytes, Tensor] = {}  # of the rows that were prepared last; they need not be kept
        self._disk = _Disk(disk_bytes)

    def prepare(self, student: Student, windows: Windows, rows: Ints, budget: int) -> None:
        """Compute the states of rows that come next, in micro-batches of at most `budget` places, and keep what fits.

        Nothing to do if the student does not split.
        """
        if student.splits:
            wanted = dict(zip(_keys(student, windows, rows), rows.tolist(), strict=True))
            self._hand = self._made(student, windows, wanted, budget)

    def states(self, student: Student, windows: Windows, rows: Sequence[int], budget: int) -> list[Tensor] | None:
        """Return the states of each row, (subwords, dim); None if the student does not split."""
        if not student.splits:
            return None
        keys = _keys(student, windows, rows)
        wanted = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._hand}
        made = self._made(student, windows, wanted, budget)
        return [self._get(key, made) for key in keys]

    def _get(self, key: bytes, made: Mapping[bytes, Tensor]) -> Tensor:
        for kept in (self._found, self._hand, made):
            if (state := kept.get(key)) is not None:
                return state
        return self._disk.read(key)

    def _made(
        self, student: Student, windows: Windows, wanted: Mapping[bytes, int], budget: int
    ) -> dict[bytes, Tensor]:
        """Compute those that are kept nowhere, keep what fits, and return the rest."""
        missing = {key: row for key, row in wanted.items() if key not in self._found and key not in self._disk}
        rest: dict[bytes, Tensor] = {}
        if not missing:
            return rest
        made = dict(zip(missing, student.states(windows, list(missing.values()), budget), strict=True))
        for key, state in made.items():
            size = state.numel() * state.element_size()
            if size <= self._left:
                self._found[key] = state
                self._left -= size
            elif not self._disk.write(key, state):
                rest[key] = state
        return rest


class _Disk:
    """States in a file of the local disk."""

    def __init__(self, room: float) -> None:
        self._left, self._end = room, 0
        self._places: dict[bytes, _Place] = {}
        self._file = None if room > 0 else -1

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def write(self, key: bytes, state: Tensor) -> bool:
        """Keep a state; returns False where there is no room."""
        if self._file is None:
            self._own = tempfile.TemporaryFile(prefix="xner_ray_states_")  # noqa: SIM115 - as long as the store lives
            self._file = self._own.fileno()
            self._left = min(self._left, shutil.disk_usage(tempfile.gettempdir()).free / 2)
        data = state.contiguous().view(torch.uint8).numpy().tobytes()
        if len(data) > self._left:
            return False
        try:
            written = os.pwrite(self._file, data, self._end)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise
            written = 0
        if written < len(data):  # others have filled the disk: from here on states are computed again
            self._left = 0
            return False
        self._places[key] = self._end, tuple(state.shape), state.dtype
        self._end += len(data)
        self._left -= len(data)
        return True

    def read(self, key: bytes) -> Tensor:
        offset, shape, dtype = self._places[key]
        assert self._file is not None
        data = bytearray(int(np.prod(shape)) * dtype.itemsize)
        if os.preadv(self._file, [data], offset) < len(data):
            raise OSError(errno.EIO, f"the file of kept states in {tempfile.gettempdir()} ends too soon")
        return torch.frombuffer(data, dtype=dtype).view(shape)


def _keys(student: Student, windows: Windows, rows: Sequence[int] | Ints) -> list[bytes]:
    """Return a hash of each row's subwords, and of all else that its state depends on."""
    own = blake2b(student.frozen_digest, digest_size=16)
    own.update(bytes([torch.is_autocast_enabled(student.device.type)]))
    keys = []
    for row in rows:
        digest = own.copy()
        digest.update(windows.ids[windows.starts[row] : windows.starts[row + 1]].tobytes())
        keys.append(digest.digest())
    return keys
