"""Read and write label maps: PNG files, COCO panoptic PNGs and predictions. Imports no torch."""

from tlvision.formats.label_maps.class_file import read_class_file
from tlvision.formats.label_maps.class_masks import CLASS, STEM, find_class_masks
from tlvision.formats.label_maps.files import read_label_map, write_label_map
from tlvision.formats.label_maps.folder import LabelMapData, count_pixels, read_label_maps
from tlvision.formats.label_maps.panoptic import read_panoptic

__all__ = [
    "CLASS",
    "STEM",
    "LabelMapData",
    "count_pixels",
    "find_class_masks",
    "read_class_file",
    "read_label_map",
    "read_label_maps",
    "read_panoptic",
    "write_label_map",
]
