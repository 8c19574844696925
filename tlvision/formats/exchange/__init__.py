"""Datasets in the formats of label tools: read any, write COCO and YOLO."""

from tlvision.formats.exchange.coco import to_coco
from tlvision.formats.exchange.detect import read_any
from tlvision.formats.exchange.labelled import Labels, Picture, Shape
from tlvision.formats.exchange.yolo import write_yolo

__all__ = ["Labels", "Picture", "Shape", "read_any", "to_coco", "write_yolo"]
