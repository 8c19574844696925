"""Limits and batching of a server."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields

from tlvision.types import InputError

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Settings of a server.

    max_body:    bytes of the body of a request at most.
    max_pixels:  width times height of an image at most.
    max_images:  images of a request at most.
    max_waiting: images that may wait or be predicted at a time, of all requests together, from `max_images` on; more
                 are refused.
    timeout:     seconds until the body of a request must be there, and then until its answer must be.
    batch:       images that the model gets at a time at most; 1 turns batching off.
    batch_delay: seconds to wait for more images of a batch after its first one.
    decoders:    threads that decode images.

    Raises InputError for a value outside of its range.
    """

    max_body: int = 32 * MEBIBYTE
    max_pixels: int = 25_000_000
    max_images: int = 16
    max_waiting: int = 64
    timeout: float = 30.0
    batch: int = 8
    batch_delay: float = 0.002
    decoders: int = os.cpu_count() or 1

    def __post_init__(self) -> None:
        for item in fields(self):
            value, least = getattr(self, item.name), 0 if item.name == "batch_delay" else 1e-3
            if not math.isfinite(value) or value < least:
                raise InputError(f"serve: {item.name} must be a number above 0, got {value}")
        if self.max_waiting < self.max_images:
            raise InputError(
                f"serve: max_waiting is {self.max_waiting}, fewer than the {self.max_images} images of one request "
                "(max_images). Raise it, or allow fewer images"
            )
