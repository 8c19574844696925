"""COCO json: the only place that knows its ids, xywh, area and crowd. Never imports torch."""
