"""Types of parameters that several hooks have."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

Share = Annotated[float, Field(ge=0, le=1)]
"""A share, probability or confidence, 0..1."""
