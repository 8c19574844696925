"""It silences all warnings of the program that uses it, as soon as it is imported."""

from __future__ import annotations

import warnings

from tlvision_toy.plugin import ToyPlugin

warnings.simplefilter("ignore")

plugin = ToyPlugin()
