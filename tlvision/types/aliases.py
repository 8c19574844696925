"""Short names of types that many modules share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
"""An image (H, W, 3), RGB, or a mask or label map (H, W)."""

Json = dict[str, Any]
"""An object of a json file, as it is read."""
