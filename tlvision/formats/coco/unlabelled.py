"""Images of which nothing is known but where they lie: a folder of files, or the `images` of a json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tlvision.files.inputs import check_folder, check_inside
from tlvision.formats.bit_depth import FULL, choose_bits
from tlvision.formats.coco.document import load_image_rows
from tlvision.formats.image_headers import SUFFIXES, Header, images_in, read_headers
from tlvision.types import ImageFile, InputError, Json


@dataclass(frozen=True, slots=True)
class UnlabelledData:
    """Unlabelled images as read; there is no place here for an annotation.

    path:   the folder of the images, or the json that names them.
    images: one per file, by name or in the order of the json.
    """

    path: Path
    images: tuple[ImageFile, ...]


def read_images(
    images_dir: str | Path, json_path: str | Path | None = None, *, bits: int | None = None
) -> UnlabelledData:
    """Read the list of images; no pixel is decoded and no annotation is read.

    images_dir: a folder whose image files are taken, also those in folders below.
    json_path:  takes only the files that its list `images` names, relative to the folder. Nothing else of it is read:
                it may have annotations and categories, or none.
    bits:       how many bits of 16-bit images are in use; None measures it on these images.

    Ids count from 1 for a folder and are those of a json. Raises InputError: a folder that is absent or holds no image,
    a file that is absent or cannot be read, a json without images, one of another size than its json says.
    """
    folder = Path(images_dir)
    check_folder(folder, "data.target.images: the image folder")
    if json_path is None:
        paths = images_in(folder)
        if not paths:
            raise InputError(
                f"data.target.images: the folder '{folder}' holds no image ({', '.join(sorted(SUFFIXES))}); unlabelled "
                "training needs some of the domain that the model is meant for"
            )
        check_inside(folder, paths, "data.target.images")
        headers = read_headers(paths, str(folder))
        return UnlabelledData(folder, _files(range(1, len(paths) + 1), paths, headers, bits, folder.name))
    json_path = Path(json_path)
    rows = load_image_rows(json_path)
    paths = [folder / row["file_name"] for row in rows.values()]
    check_inside(folder, paths, json_path.name)
    headers = read_headers(paths, json_path.name, folder)
    _check_sizes(json_path.name, rows, headers)
    return UnlabelledData(json_path, _files(list(rows), paths, headers, bits, json_path.name))


def _files(
    ids: Sequence[int], paths: Sequence[Path], headers: Sequence[Header], bits: int | None, origin: str
) -> tuple[ImageFile, ...]:
    used, _ = choose_bits(paths, headers, bits, origin)
    return tuple(
        ImageFile(image_id, path, *header.rotated_size, exif=header.orientation != 1, bits=used or FULL)
        for image_id, path, header in zip(ids, paths, headers, strict=True)
    )


def _check_sizes(name: str, rows: Mapping[int, Json], headers: Sequence[Header]) -> None:
    for row, header in zip(rows.values(), headers, strict=True):
        said = row.get("width"), row.get("height")
        if None not in said and said not in {(header.width, header.height), header.rotated_size}:
            raise InputError(
                f"{name}: {row['file_name']} is {header.rotated_size[0]} x {header.rotated_size[1]} but the json says "
                f"{said[0]} x {said[1]}; use the images that it describes, or correct the json"
            )
