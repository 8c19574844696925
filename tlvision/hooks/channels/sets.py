"""Say which channels of a network belong together: they can only be left out together.

A convolution makes channels, an addition puts those of two convolutions together, a concatenation or a split lines them
up, and the next convolution reads them. Whoever removes one has to remove it everywhere. Importing this imports no
torch.

Source: the idea of dependency groups is that of Fang et al., "DepGraph: Towards Any Structural Pruning", CVPR 2023
(arXiv 2301.12900). Differences: channels are followed one by one through the operations of a pass, not layers through
the graph of gradients, so that halves of a split and concatenations need no rules of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]


class Channels:
    """Sets of channels that belong together, and which of them cannot be left out.

    >>> channels = Channels()
    >>> one, two = channels.new(2), channels.new(2)
    >>> channels.join(one, two)
    >>> channels.fix(two[:1])
    >>> channels.roots(one).tolist() == channels.roots(two).tolist(), channels.free(one).tolist()
    (True, [False, True])
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._fixed: set[int] = set()

    def new(self, count: int) -> Ids:
        """Return the numbers of channels that belong to nothing yet."""
        first = len(self._parents)
        self._parents += range(first, first + count)
        return np.arange(first, first + count)

    def join(self, one: Ids, other: Ids) -> None:
        """Put two rows of channels together, each with its partner."""
        for first, second in zip(one.tolist(), other.tolist(), strict=True):
            self._parents[self._root(first)] = self._root(second)

    def fix(self, ids: Ids) -> None:
        """Note that channels cannot be left out, nor what belongs to them."""
        self._fixed.update(ids.tolist())

    def roots(self, ids: Ids) -> Ids:
        """Return a number for each channel that is equal for those that belong together."""
        return np.array([self._root(each) for each in ids.tolist()], np.int64)

    def free(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Return which channels can be left out."""
        fixed = {self._root(each) for each in self._fixed}
        return np.array([self._root(each) not in fixed for each in ids.tolist()], bool)

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number


def moved_axis(axis: int, before: Sequence[int], after: Sequence[int]) -> int | None:
    """Return where an axis of a tensor lies after a reshape, None if its elements are torn apart or mixed.

    >>> moved_axis(1, (2, 8, 4, 4), (2, 8, 16)), moved_axis(2, (2, 16, 8), (32, 8)), moved_axis(1, (2, 8, 4), (2, 32))
    (1, 1, None)
    """
    ahead = int(np.prod(before[:axis], dtype=np.int64))
    for place, length in enumerate(after):
        if length == before[axis] and int(np.prod(after[:place], dtype=np.int64)) == ahead:
            return place
    return None
