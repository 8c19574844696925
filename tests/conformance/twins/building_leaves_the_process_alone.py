"""It counts its builds in an environment variable."""

from __future__ import annotations

import os

from tlvision_toy.plugin import ToyPlugin


class Broken(ToyPlugin):
    def build(self, spec):
        os.environ["TOY_BUILDS"] = str(int(os.environ.get("TOY_BUILDS", "0")) + 1)
        return super().build(spec)


plugin = Broken()
