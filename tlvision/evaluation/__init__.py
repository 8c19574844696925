"""Two files in, numbers out. Never imports torch, so that anyone can recompute a published number."""

from tlvision.evaluation.analysis import Analysis
from tlvision.evaluation.analysis_text import format_metrics
from tlvision.evaluation.class_iou import class_iou
from tlvision.evaluation.coco_map import coco_map, measurable, three_limits
from tlvision.evaluation.instance_map import instance_map
from tlvision.evaluation.label_map_files import label_map_iou
from tlvision.evaluation.metrics_csv import csv_files
from tlvision.evaluation.pseudo_labels import format_quality, pseudo_label_quality
from tlvision.evaluation.pseudo_pixels import PixelQuality
from tlvision.evaluation.read import has_masks
from tlvision.evaluation.summary import format_table

__all__ = [
    "Analysis",
    "PixelQuality",
    "class_iou",
    "coco_map",
    "csv_files",
    "format_metrics",
    "format_quality",
    "format_table",
    "has_masks",
    "instance_map",
    "label_map_iou",
    "measurable",
    "pseudo_label_quality",
    "three_limits",
]
