"""It says that it can do one task only, and has an architecture for another."""

from __future__ import annotations

from dataclasses import dataclass

from tlvision_toy.plugin import ToyPlugin


@dataclass(frozen=True)
class Broken(ToyPlugin):
    tasks: tuple = ("detect",)


plugin = Broken()
