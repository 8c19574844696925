"""The hash that travels with every result, so that numbers under different protocols are not compared unnoticed."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def protocol_hash(fields: dict[str, Any]) -> str:
    """Return 12 hex digits of the sha256 over `fields` as sorted JSON: equal for equal protocols, on any machine.

    fields: everything that changes the number and nothing that does not (no library version), JSON-able.

    >>> protocol_hash({"b": 1, "a": [2]}) == protocol_hash({"a": [2], "b": 1})
    True
    """
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:12]
