"""Operators of mmcv 2.1 that are not covered, and what needs them: nothing in mmdet's or mmseg's zoo. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_ROTATED = "detectors of rotated boxes (mmrotate)"
_POINTS = "detectors of point clouds (mmdet3d)"
_TEXT = "text detectors (mmocr)"
_GENERATORS = "image generators (mmagic)"

UNCOVERED: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(
            (
                "active_rotated_filter_forward",
                "active_rotated_filter_backward",
                "box_iou_quadri",
                "box_iou_rotated",
                "convex_giou",
                "convex_iou",
                "chamfer_distance_forward",
                "chamfer_distance_backward",
                "diff_iou_rotated_sort_vertices_forward",
                "min_area_polygons",
                "nms_quadri",
                "nms_rotated",
                "points_in_polygons_forward",
                "riroi_align_rotated_forward",
                "riroi_align_rotated_backward",
                "roi_align_rotated_forward",
                "roi_align_rotated_backward",
                "rotated_feature_align_forward",
                "rotated_feature_align_backward",
            ),
            _ROTATED,
        ),
        **dict.fromkeys(
            (
                "assign_score_withk_forward",
                "assign_score_withk_backward",
                "ball_query_forward",
                "stack_ball_query_forward",
                "dynamic_point_to_voxel_forward",
                "dynamic_point_to_voxel_backward",
                "dynamic_voxelize_forward",
                "hard_voxelize_forward",
                "furthest_point_sampling_forward",
                "furthest_point_sampling_with_dist_forward",
                "gather_points_forward",
                "gather_points_backward",
                "group_points_forward",
                "group_points_backward",
                "stack_group_points_forward",
                "stack_group_points_backward",
                "iou3d_boxes_overlap_bev_forward",
                "iou3d_nms3d_forward",
                "iou3d_nms3d_normal_forward",
                "knn_forward",
                "points_in_boxes_part_forward",
                "points_in_boxes_cpu_forward",
                "points_in_boxes_all_forward",
                "roiaware_pool3d_forward",
                "roiaware_pool3d_backward",
                "roipoint_pool3d_forward",
                "get_indice_pairs_2d_forward",
                "get_indice_pairs_3d_forward",
                "get_indice_pairs_4d_forward",
                "get_indice_pairs_2d_backward",
                "get_indice_pairs_3d_backward",
                "indice_conv_forward",
                "indice_conv_backward",
                "fused_indice_conv_forward",
                "indice_maxpool_forward",
                "indice_maxpool_backward",
                "three_interpolate_forward",
                "three_interpolate_backward",
                "three_nn_forward",
            ),
            _POINTS,
        ),
        **dict.fromkeys(
            ("bezier_align_forward", "bezier_align_backward", "contour_expand", "pixel_group"),
            _TEXT,
        ),
        **dict.fromkeys(
            (
                "bias_act",
                "filtered_lrelu",
                "filtered_lrelu_act_",
                "fused_bias_leakyrelu",
                "upfirdn2d",
            ),
            _GENERATORS,
        ),
        **dict.fromkeys(("correlation_forward", "correlation_backward"), "optical flow networks (mmflow)"),
        **dict.fromkeys(("border_align_forward", "border_align_backward"), "BorderDet (cvpods)"),
        **dict.fromkeys(
            ("prroi_pool_forward", "prroi_pool_backward", "prroi_pool_coor_backward"),
            "trackers with precise RoI pooling (mmtracking)",
        ),
        **dict.fromkeys(("tin_shift_forward", "tin_shift_backward"), "video classifiers (mmaction2)"),
    }
)
"""Name in `mmcv._ext` -> the models that need it."""
