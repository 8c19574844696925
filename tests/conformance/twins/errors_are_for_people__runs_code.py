"""Weight files are unpickled, and with them whatever somebody has put there."""

from __future__ import annotations

import pickle

import torch

from tlvision.types import InputError
from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        if spec.weights.endswith(".pt"):
            try:
                torch.load(spec.weights, weights_only=False)
            except (OSError, pickle.UnpicklingError) as error:
                raise InputError(f"weights: '{spec.weights}' cannot be read; give another file") from error
        return super().build(spec)


plugin = Broken()
