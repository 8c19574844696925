"""Write a training json of few images, and one of other training images that may choose a learning rate.

    python tools/bench.py few_images --data ../shared/data/bccd --out runs/few_images

OUT/few.json has every tenth image of DATA/train.json, OUT/judge.json every third of the others. The experiments
`transfer.yaml` and `transfer_rates.yaml` beside this file train and choose on them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with train.json")
    parser.add_argument("--nth", type=int, default=10, help="every nth training image")
    parser.add_argument("--out", type=Path, default=Path("runs/few_images"))
    return parser.parse_args()


def write_subsets(train_json: Path, nth: int, out: Path) -> tuple[Path, Path]:
    """Write few.json, every nth image, and judge.json, every third of the others, and return their paths."""
    document = json.loads(train_json.read_text(encoding="utf-8"))
    images = document["images"]
    few = images[nth - 1 :: nth]
    others = [image for index, image in enumerate(images) if index % nth != nth - 1]
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, chosen in (("few", few), ("judge", others[::3])):
        kept = {image["id"] for image in chosen}
        annotations = [row for row in document["annotations"] if row["image_id"] in kept]
        path = out / f"{name}.json"
        path.write_text(json.dumps({**document, "images": chosen, "annotations": annotations}), encoding="utf-8")
        print(f"{path}: {len(chosen)} images")
        paths.append(path)
    return paths[0], paths[1]


def main() -> None:
    """Write both files."""
    options = arguments()
    write_subsets(options.data / "train.json", options.nth, options.out)
