"""COCO json: the only package that handles its ids, xywh, area and crowd. Imports no torch."""

from tlvision.files.json_files import write_json
from tlvision.formats.coco.document import load_document
from tlvision.formats.coco.read import CocoData, read_coco, read_readable, read_unlabelled, unlabelled_sample
from tlvision.formats.coco.rules import box_area, xywh_to_xyxy, xyxy_to_xywh
from tlvision.formats.coco.unlabelled import UnlabelledData, read_images
from tlvision.formats.coco.write import Written, result_rows, write_dataset, write_predictions, write_used

__all__ = [
    "CocoData",
    "UnlabelledData",
    "Written",
    "box_area",
    "load_document",
    "read_coco",
    "read_images",
    "read_readable",
    "read_unlabelled",
    "result_rows",
    "unlabelled_sample",
    "write_dataset",
    "write_json",
    "write_predictions",
    "write_used",
    "xywh_to_xyxy",
    "xyxy_to_xywh",
]
