"""It says that it was tried with versions of its upstream that there are none of."""

from __future__ import annotations

from dataclasses import dataclass

from tlvision_toy.plugin import ToyPlugin


@dataclass(frozen=True)
class Broken(ToyPlugin):
    upstream: str = "pytest"
    upstream_versions: str = ">=99"


plugin = Broken()
