"""Random numbers of one hook, which depend on no other hook and on no pass of the model."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

States = tuple[Any, ...]
"""The states of the global generators of torch (CPU, and GPU if there is one), numpy and Python."""


def generator_states() -> States:
    """Return the states of all global generators; of GPUs the current one counts."""
    import torch

    device = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    return torch.get_rng_state(), device, np.random.get_state(), random.getstate()


def set_generator_states(states: States) -> None:
    """Put back what `generator_states` gave."""
    import torch

    cpu, device, numpy_state, python_state = states
    torch.set_rng_state(cpu)
    if device is not None:
        torch.cuda.set_rng_state(device)
    np.random.set_state(numpy_state)
    random.setstate(python_state)


@contextmanager
def kept_generators(start: States | None = None) -> Iterator[None]:
    """Put the global generators back afterwards, as if nothing had been drawn inside the with-block.

    start: the states that the block begins with; None takes the present ones, so that two blocks that follow one
    another draw the same numbers.

    >>> import torch
    >>> with kept_generators():
    ...     first = torch.rand(1)
    >>> bool(first == torch.rand(1))
    True
    """
    before = generator_states()
    try:
        if start is not None:
            set_generator_states(start)
        yield
    finally:
        set_generator_states(before)


@contextmanager
def own_generators(*names: object) -> Iterator[None]:
    """Seed the global generators with the run's seed and `names` inside the with-block; put them back afterwards.

    names: purpose of the numbers, such as a hook's key and the step; equal names give equal numbers.

    >>> import torch
    >>> with own_generators("mixing", 7):
    ...     first = torch.rand(1)
    >>> _ = torch.rand(5)
    >>> with own_generators("mixing", 7):
    ...     bool(first == torch.rand(1))
    True
    """
    import torch

    text = repr((torch.initial_seed(), *names)).encode()
    seed = int.from_bytes(hashlib.blake2b(text, digest_size=6).digest(), "big")
    with kept_generators():
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        yield
