"""Multi-scale deformable attention, by the plain form that mmcv itself has for machines without its kernel.

Source: Zhu et al., "Deformable DETR", ICLR 2021, equation 3.
"""

from __future__ import annotations

from torch import Tensor

from tlvision_openmmlab.mmcv_ops.kernels import Operators, gradients, working


def ms_deform_attn_forward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Return the attended values, (N, queries, heads * channels).

    value: (N, keys, heads, channels), all levels one behind the other. spatial_shapes: (levels, 2) int64, height and
    width. sampling_locations: (N, queries, heads, levels, points, 2), x and y in 0..1 of each level.
    attention_weights: (N, queries, heads, levels, points). level_start_index, im2col_step: not used.
    """
    attend = _attention(spatial_shapes)
    found: Tensor = attend(*(working(each) for each in (value, sampling_locations, attention_weights)))
    return found.to(value.dtype)


def ms_deform_attn_backward(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients of values, places and weights."""
    found = gradients(_attention(spatial_shapes), [value, sampling_locations, attention_weights], grad_output)
    for target, grad in zip((grad_value, grad_sampling_loc, grad_attn_weight), found, strict=True):
        target.copy_(grad)


def _attention(spatial_shapes: Tensor):  # type: ignore[no-untyped-def]
    # mmcv asks for the operators while it is imported, so it cannot be imported before them.
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    def attend(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        found: Tensor = multi_scale_deformable_attn_pytorch(value, spatial_shapes, locations, weights)
        return found

    return attend


OPERATORS: Operators = {
    "ms_deform_attn_forward": ms_deform_attn_forward,
    "ms_deform_attn_backward": ms_deform_attn_backward,
}
