"""Let the scores of upstream's dense heads keep their gradients."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

from torch import Tensor

from tlvision_openmmlab.mmdet.upstream import select_single_mlvl

_NAME = select_single_mlvl.__name__


@contextmanager
def keeping_gradients() -> Iterator[None]:
    """Make upstream's heads not detach their outputs inside the with-block.

    They pass each image's scores through `select_single_mlvl`, which detaches them: proposals must have no gradient in
    training. There is no setting for it, so the function is replaced in the modules that have imported it.
    """
    owners = [module for name, module in sys.modules.items() if name.startswith("mmdet.") and hasattr(module, _NAME)]
    with ExitStack() as stack:
        for owner in owners:
            stack.enter_context(patch.object(owner, _NAME, _select))
        yield


def _select(levels: Sequence[Tensor], batch_id: int, detach: bool = True) -> Sequence[Tensor]:
    found: Sequence[Tensor] = select_single_mlvl(levels, batch_id, detach=False)
    return found
