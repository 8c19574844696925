"""Predict on any images with a trained run: pictures, and predictions.json or label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from tlvision.coco import read_unlabelled, result_rows, write_json
from tlvision.config.loaded import load
from tlvision.data.images import read_image, write_image
from tlvision.label_maps import write_label_map
from tlvision.report import draw_prediction
from tlvision.types import ClassMap, InputError, Prediction, Sample

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})


def predict_images(run: Path, images: Sequence[Path], out: Path, *, min_score: float = 0.25) -> None:
    """Write `<out>/<stem>.jpg` with the objects of at least `min_score`, and `<out>/predictions.json` with all of them.

    Of a semantic model: `<out>/<stem>.jpg` with the classes in colour, and `<out>/label_maps/<stem>.png`.

    images: files, or folders whose image files are taken. predictions.json is a COCO results list, with "segmentation"
    (run lengths) where the model finds masks; `image_id` counts the images from 1 in the order given, `file_name` and
    `category` name image and class.
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
        window=model.config.evaluate.window,
    )
    semantic = model.task == "semantic"
    (out / "label_maps" if semantic else out).mkdir(parents=True, exist_ok=True)
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
        if prediction.semantic is not None:
            write_label_map(out / "label_maps" / Path(names[sample.image_id]).with_suffix(".png"), prediction.semantic)
            continue
        rows += _rows(sample, prediction, model.classes)
        shown += int((prediction.scores >= min_score).sum())
    if semantic:
        said = f"{len(samples)} images\npictures       {out}\nlabel maps     {out / 'label_maps'}"
        Console().print(said, highlight=False, soft_wrap=True)
        return
    rows.sort(key=lambda row: row["image_id"])  # type: ignore[arg-type,return-value]
    write_json(out / "predictions.json", rows)
    Console().print(
        f"{shown} objects of score {min_score} or more in {len(samples)} images\npictures       {out}\n"
        f"all objects    {out / 'predictions.json'}",
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


def _rows(sample: Sample, prediction: Prediction, classes: ClassMap) -> list[dict[str, object]]:
    """Return the rows that evaluation reads, and the names that people want."""
    rows, _ = result_rows(sample.image_id, prediction, dict(enumerate(classes.source_ids)))
    names = dict(zip(classes.source_ids, classes.names, strict=True))
    return [{**row, "file_name": sample.path.name, "category": names[row["category_id"]]} for row in rows]
