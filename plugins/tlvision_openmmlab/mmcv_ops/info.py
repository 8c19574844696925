"""Report how mmcv was compiled."""

from __future__ import annotations

from tlvision_openmmlab.mmcv_ops.kernels import Operators


def get_compiler_version() -> str:
    """Return, in place of a compiler, what there is."""
    return "none: tlvision_openmmlab.mmcv_ops"


def get_compiling_cuda_version() -> str:
    """Return, in place of CUDA's version, what there is."""
    return "none: tlvision_openmmlab.mmcv_ops"


OPERATORS: Operators = {
    "get_compiler_version": get_compiler_version,
    "get_compiling_cuda_version": get_compiling_cuda_version,
}
