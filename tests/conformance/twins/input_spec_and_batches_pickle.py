"""The input spec holds a function without a name, which no other process can be sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

from tlvision.plugin import InputSpec
from tlvision_toy.adapter import INPUT, DetectorAdapter
from tlvision_toy.plugin import ToyPlugin


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing(InputSpec):
    prepare: Callable = lambda image: image


class Unpicklable(DetectorAdapter):
    @property
    def input_spec(self):
        return Closing(**{field.name: getattr(INPUT, field.name) for field in fields(INPUT)})


class Broken(ToyPlugin):
    def build(self, spec):
        adapter, report = super().build(spec)
        adapter.__class__ = Unpicklable
        return adapter, report


plugin = Broken()
