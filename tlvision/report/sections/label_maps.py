"""Errors of label maps, from `analysis` in metrics.json."""

from __future__ import annotations

from typing import Any

from tlvision.report.page import Cell, DataTable, Section, section
from tlvision.report.run_files import RunFiles, mapping
from tlvision.report.sections.objects import confusion_blocks


def label_map_section(files: RunFiles) -> Section | None:
    """Return where wrong pixels lie, how images differ, and the confusion."""
    blocks: list[dict[str, Any]] = []
    for found in mapping(files.metrics, "analysis").values():
        if "border" not in found or "images" not in found:
            continue
        near, inside = found["border"]["near"], found["border"]["inside"]
        rows: list[list[Cell]] = [
            ["near another class", near["error"], near["pixels"]],
            ["elsewhere", inside["error"], inside["pixels"]],
        ]
        text = f"Near: at most {100 * found['border']['distance']:g} % of the image diagonal away from another class."
        blocks.append(
            {"title": "Borders", "text": text, "table": DataTable(["pixels", "share of wrong ones", "number"], rows)}
        )
        quantiles: list[Cell] = list(found["images"]["quantiles"].values())
        heads = ["images", *(f"{100 * float(part):g} %" for part in found["images"]["quantiles"]), "mean"]
        table = DataTable(heads, [["mean IoU", *quantiles, found["images"]["mean"]]])
        blocks.append({"title": "Images", "text": "Quantiles of the mean IoU of an image.", "table": table})
        blocks += confusion_blocks(
            found["confusion"], list(found["per_class"]), "Confusion", "Confusion in pixels", "pixels"
        )
    return section("Errors", blocks)
