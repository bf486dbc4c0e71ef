"""States that one reader of the built-in encoder leaves, and another takes.

`tag` and `align` read the same sentences with the same frozen layers. What the tagger has computed for a micro-batch is
kept until the aligner wants the same micro-batch. A state depends on its micro-batch in its last bits, so nothing else
is ever taken in its place: results are those of two networks. What does not fit in `KEPT_BYTES` is computed again.
Sentences with a context beside them are read by the tagger alone, and nothing of their micro-batches is kept.
"""

from __future__ import annotations

from hashlib import blake2b

from torch import Tensor

from xner_ray.data.arrow import ranges
from xner_ray.models.windows import Ints, Windows

KEPT_BYTES = {"cpu": 1 << 29, "cuda": 1 << 31}
"""Most bytes of states that are kept, by kind of device: 8,000 and 60,000 sentences of 40 subwords."""


class KeptStates:
    """States that one reader leaves and another takes, by micro-batch.

    wanted: somebody takes; until then nothing is kept.
    """

    def __init__(self, device: str) -> None:
        self.wanted = False
        self._left = self._room = KEPT_BYTES[device]
        self._kept: dict[bytes, Tensor] = {}

    def leave(self, windows: Windows, batch: Ints, states: Tensor) -> None:
        """Keep the states (B, T, dim) of the windows `batch`, if there is room."""
        size = states.numel() * states.element_size()
        wanted = self.wanted and size <= self._left and not windows.context[batch].any()
        if wanted and (key := _key(windows, batch)) not in self._kept:
            self._kept[key] = states
            self._left -= size

    def take(self, windows: Windows, batch: Ints) -> Tensor | None:
        """Return the states that were left for just these windows, once; None if there are none."""
        states = self._kept.pop(_key(windows, batch), None) if self._kept else None
        if states is not None:
            self._left += states.numel() * states.element_size()
        return states

    def forget(self) -> None:
        """Let go of all states that nobody has taken."""
        self._kept.clear()
        self._left = self._room


def _key(windows: Windows, batch: Ints) -> bytes:
    """Return a hash of the subwords of a micro-batch, window by window."""
    sizes = windows.lengths[batch]
    digest = blake2b(sizes.tobytes(), digest_size=16)
    digest.update(windows.ids[ranges(windows.starts[batch], sizes)].tobytes())
    return digest.digest()
