"""Write a dataset as label tools write it, from their documentation: what the readers of formats are tested on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from tlvision.formats.exchange import Labels, Picture, Shape

Writer = Callable[[Labels, Path], Path]


def write_voc(labels: Labels, out: Path) -> Path:
    """Write Annotations/*.xml; boxes alone, whole pixels, counted from 1."""
    (out / "Annotations").mkdir(parents=True)
    for number, picture in enumerate(labels.pictures):
        rows = "".join(
            f"<object><name>{escape(shape.label)}</name><difficult>{int(shape.crowd)}</difficult><bndbox>"
            f"<xmin>{shape.box[0] + 1}</xmin><ymin>{shape.box[1] + 1}</ymin><xmax>{shape.box[2]}</xmax>"
            f"<ymax>{shape.box[3]}</ymax></bndbox></object>"
            for shape in picture.shapes
        )
        size = f"<size><width>{picture.width}</width><height>{picture.height}</height><depth>3</depth></size>"
        text = f"<annotation><filename>{escape(picture.file)}</filename>{size}{rows}</annotation>"
        (out / "Annotations" / f"{number}.xml").write_text(text, encoding="utf-8")
    return out


def write_labelme(labels: Labels, out: Path) -> Path:
    """Write a json an image; an object with several outlines is a group."""
    out.mkdir(parents=True)
    for number, picture in enumerate(labels.pictures):
        rows: list[dict[str, Any]] = []
        for group, shape in enumerate(picture.shapes):
            if not shape.outlines:
                x0, y0, x1, y1 = shape.box
                points = [[[x1, y0], [x0, y1]]]  # any two opposite corners
            else:
                points = [[list(pair) for pair in zip(o[::2], o[1::2], strict=True)] for o in shape.outlines]
            kind = "polygon" if shape.outlines else "rectangle"
            group_id = group if len(points) > 1 else None
            rows += [{"label": shape.label, "points": p, "group_id": group_id, "shape_type": kind} for p in points]
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": rows,
            "imagePath": f"..\\pictures\\{picture.file}".replace("/", "\\"),
            "imageData": None,
            "imageHeight": picture.height,
            "imageWidth": picture.width,
        }
        (out / f"{number}.json").write_text(json.dumps(content), encoding="utf-8")
    return out


def write_cvat(labels: Labels, out: Path) -> Path:
    """Write one xml, "CVAT for images 1.1"; objects with one outline or none."""
    out.mkdir(parents=True)
    names = "".join(f"<label><name>{escape(name)}</name><color>#ff0000</color></label>" for name in labels.classes)
    images = []
    for number, picture in enumerate(labels.pictures):
        rows = "".join(map(_cvat_shape, picture.shapes))
        images.append(
            f'<image id="{number}" name={quoteattr(picture.file)} width="{picture.width}" height="{picture.height}">'
            f"{rows}</image>"
        )
    text = f"<annotations><version>1.1</version><meta><job><labels>{names}</labels></job></meta>{''.join(images)}"
    (out / "annotations.xml").write_text(f"{text}</annotations>", encoding="utf-8")
    return out / "annotations.xml"


def _cvat_shape(shape: Shape) -> str:
    if not shape.outlines:
        x0, y0, x1, y1 = shape.box
        return f'<box label={quoteattr(shape.label)} occluded="0" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}"/>'
    (outline,) = shape.outlines
    points = ";".join(f"{x},{y}" for x, y in zip(outline[::2], outline[1::2], strict=True))
    return f'<polygon label={quoteattr(shape.label)} occluded="0" points="{points}"/>'


def write_label_studio(labels: Labels, out: Path) -> Path:
    """Write an export as JSON; images were uploaded, so their names have eight characters in front."""
    out.mkdir(parents=True)
    tasks = []
    for number, picture in enumerate(labels.pictures):
        results = [_label_studio_shape(shape, picture) for shape in picture.shapes]
        name = f"/data/upload/1/{number:08x}-{Path(picture.file).name}"
        annotations = [{"id": number, "was_cancelled": False, "result": results}]
        tasks.append({"id": number, "data": {"image": name}, "annotations": annotations, "predictions": []})
    (out / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
    return out / "export.json"


def _label_studio_shape(shape: Shape, picture: Picture) -> dict[str, Any]:
    def part(x: float, y: float) -> list[float]:
        return [100 * x / picture.width, 100 * y / picture.height]

    if shape.outlines:
        (outline,) = shape.outlines
        points = [part(x, y) for x, y in zip(outline[::2], outline[1::2], strict=True)]
        kind, value = "polygonlabels", {"points": points, "closed": True}
    else:
        (x, y), (w, h) = part(*shape.box[:2]), part(shape.box[2] - shape.box[0], shape.box[3] - shape.box[1])
        kind, value = "rectanglelabels", {"x": x, "y": y, "width": w, "height": h, "rotation": 0}
    size = {"original_width": picture.width, "original_height": picture.height}
    return {"type": kind, "value": {**value, kind: [shape.label]}, **size}


def write_open_images(labels: Labels, out: Path) -> Path:
    """Write boxes as csv, and class descriptions."""
    out.mkdir(parents=True)
    keys = {name: f"/m/0{number}" for number, name in enumerate(labels.classes)}
    lines = ["ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"]
    for picture in labels.pictures:
        for shape in picture.shapes:
            x0, y0, x1, y1 = shape.box
            values = [x0 / picture.width, x1 / picture.width, y0 / picture.height, y1 / picture.height]
            numbers = ",".join(map(repr, values))
            lines.append(f"{Path(picture.file).stem},xclick,{keys[shape.label]},1,{numbers},0,0,{int(shape.crowd)}")
    (out / "boxes.csv").write_text("\n".join(lines), encoding="utf-8")
    described = "\n".join(f"{key},{name}" for name, key in keys.items())
    (out / "class-descriptions.csv").write_text(described, encoding="utf-8")
    return out / "boxes.csv"
