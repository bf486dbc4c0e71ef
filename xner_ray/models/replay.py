"""What a model was called with, so that a stage can be called again without some rows and give the others' bytes.

A row's floats depend on the shape of its micro-batch by some 1e-6, and micro-batches are formed from the whole call.
Called again without a poison row, a model takes its earlier items back in: micro-batches are formed as before, a filler
of the same length stands in for each item that is gone, and its result is thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

T = TypeVar("T")


class Recall:
    """The calls of one model during one call of its stage. `guard.py` says what they are: first, a probe, or again.

    exact: whether every call since `again` found all its items among those of the first. `approximate` says that the
    model's shapes depend on more than its items, so that it never is.
    """

    def __init__(self, *, approximate: bool = False) -> None:
        self._approximate = approximate
        self._mode: Literal["first", "probe", "again"] = "first"
        self._calls: list[list[Any]] = []
        self._at = 0
        self.exact = not approximate

    def first(self) -> None:
        """Calls from now on are remembered, the earlier ones forgotten."""
        self._mode, self._calls = "first", []

    def probe(self) -> None:
        """Calls from now on neither count nor look back."""
        self._mode = "probe"

    def again(self) -> None:
        """Calls from now on are the remembered ones, from the first on, without some of their items."""
        self._mode, self._at, self.exact = "again", 0, not self._approximate

    def complete(self, items: Sequence[T]) -> tuple[list[T], list[bool]]:
        """The items of this call with those that are gone, in their places; and which of them are really there.

        >>> recall = Recall()
        >>> recall.complete(["a", "b", "c"])
        (['a', 'b', 'c'], [True, True, True])
        >>> recall.again()
        >>> recall.complete(["a", "c"])
        (['a', 'b', 'c'], [True, False, True])
        """
        if self._mode == "first":
            self._calls.append(list(items))
        elif self._mode == "again":
            earlier = self._calls[self._at] if self._at < len(self._calls) else None
            self._at += 1
            # A failed first call may have ended before its later calls of the model: these have nothing to keep to.
            if earlier is not None:
                present = _places(items, earlier)
                if present is not None:
                    return earlier, present
                self.exact = False
        return list(items), [True] * len(items)


def _places(items: Iterable[T], earlier: Sequence[T]) -> list[bool] | None:
    """Which of `earlier` are `items`, in order; None if those are not among these."""
    present = [False] * len(earlier)
    at = 0
    for item in items:
        while at < len(earlier) and earlier[at] != item:
            at += 1
        if at == len(earlier):
            return None
        present[at] = True
        at += 1
    return present


def filled(ids: list[int], here: bool) -> list[int]:
    """The token ids of an item that is here; of one that is gone as many that no text decides: its first, a special."""
    return ids if here else ids[:1] * len(ids)
