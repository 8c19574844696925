"""Predict on any images with a trained run: pictures with boxes, and a predictions.json."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tlvision.coco import read_unlabelled, write_json, xyxy_to_xywh
from tlvision.config.loaded import load
from tlvision.data.images import read_image, write_image
from tlvision.report import draw_prediction
from tlvision.types import InputError, Prediction, Sample

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


def predict_images(run: Path, images: Sequence[Path], out: Path, *, min_score: float = 0.25) -> None:
    """Write `<out>/<stem>.jpg` with the boxes of at least `min_score`, and `<out>/predictions.json` with all of them.

    images: files, or folders whose image files are taken. predictions.json is a COCO results list; `image_id` counts
    the images from 1 in the order given, `file_name` and `category` name image and class.
    """
    samples = read_unlabelled(find_images(images))
    model = load(run)
    from tlvision.data.dataset import EvalImages
    from tlvision.training.inference import predict_samples

    names = _picture_names(samples)
    found = predict_samples(
        model.adapter,
        EvalImages(samples, model.adapter.input_spec, model.config.data.image_size, cache_bytes=0),
        fabric=model.fabric,
        batch_size=8,
        workers=0,
    )
    out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, object]] = []
    shown = 0
    for sample, prediction in track(found, total=len(samples), description="predicting"):
        picture = draw_prediction(
            read_image(sample.path, sample.width, sample.height, sample.exif)[0],
            prediction,
            model.classes.names,
            min_score=min_score,
        )
        write_image(out / names[sample.image_id], picture)
        rows += _rows(sample, prediction, model.classes.names, model.classes.source_ids)
        shown += int((prediction.scores >= min_score).sum())
    rows.sort(key=lambda row: row["image_id"])  # type: ignore[arg-type,return-value]
    write_json(out / "predictions.json", rows)
    Console().print(
        f"{shown} objects of score {min_score} or more in {len(samples)} images\npictures       {out}\n"
        f"all boxes      {out / 'predictions.json'}",
        highlight=False,
        soft_wrap=True,
    )


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Return the image files among `paths`, and those in the folders among them, in order.

    Raises InputError where a path does not exist or a folder holds no image.
    """
    files = []
    for path in paths:
        if path.is_dir():
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"predict: the folder '{path}' holds no image ({', '.join(sorted(SUFFIXES))})")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"predict: no file or folder '{path}'")
    return files


def _picture_names(samples: Sequence[Sample]) -> dict[int, str]:
    """Name pictures by stem; where two images share one, the id goes in front so that none is overwritten."""
    stems = [sample.path.stem for sample in samples]
    return {
        sample.image_id: f"{sample.path.stem}.jpg"
        if stems.count(sample.path.stem) == 1
        else f"{sample.image_id:06d}_{sample.path.stem}.jpg"
        for sample in samples
    }


def _rows(sample: Sample, prediction: Prediction, names: Sequence[str], ids: Sequence[int]) -> list[dict[str, object]]:
    boxes = xyxy_to_xywh(prediction.boxes.astype("float64"))
    return [
        {
            "image_id": sample.image_id,
            "file_name": sample.path.name,
            "category_id": ids[int(label)],
            "category": names[int(label)],
            "bbox": [round(float(value), 3) for value in box],
            "score": round(float(score), 6),
        }
        for box, score, label in zip(boxes, prediction.scores, prediction.labels, strict=True)
    ]
