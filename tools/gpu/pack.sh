#!/usr/bin/env bash
# Pack what a bare GPU machine without network lacks into .gpu_kit/ (ignored by git): wheels, real images, weights.
#
#   tools/gpu/pack.sh                              here, from the project's root, with network
#   bash tools/gpu/start.sh COMMAND…               there, from the root of a copy of the tree with .gpu_kit/
#
# The machine is to have Python 3.12, torch 2.11, torchvision 0.26, timm, OpenCV and pytest. $TLVISION_SHARED is the folder
# with data/ and weights/ (default ../shared). Fails where a wheel is missing or the kit is over 60 MiB.
set -euo pipefail
cd "$(dirname "$0")/../.."
shared="${TLVISION_SHARED:-../shared}" kit=.gpu_kit most=$((60 * 1024))
python="${PYTHON:-python3}"
[ -d "$shared/data/bccd" ] || { echo "error: no data/bccd in '$shared'; set TLVISION_SHARED" >&2; exit 2; }

# Not what the machine has: torch, torchvision, timm, numpy, OpenCV (headless), scipy, safetensors, rich, pytest; and
# not polars (52 MiB), with which ultralytics' trainer puts a table of its metrics into its checkpoints.
names=(setuptools lightning-fabric faster-coco-eval pydantic pydantic_core annotated-types typing-inspection
       ultralytics ultralytics-thop ultralytics-platform pycocotools segmentation_models_pytorch
       mmdet mmsegmentation mmengine mmcv-lite addict yapf platformdirs terminaltables shapely ftfy termcolor wcwidth prettytable)
pins=()
for name in "${names[@]}"; do
    pins+=("$(grep -iE "^${name//[-_]/[-_]}==" constraints.txt || echo "$name")")
done
platforms=()
for tag in 2_39 2_35 2_34 2_31 2_28 2_27 2_24 2_17; do platforms+=(--platform "manylinux_${tag}_x86_64"); done
platforms+=(--platform manylinux2014_x86_64 --platform manylinux1_x86_64)

rm -rf "$kit"
mkdir -p "$kit/wheels" "$kit/shared/data" "$kit/shared/weights"
"$python" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp \
    "${platforms[@]}" -d "$kit/wheels" "${pins[@]}"
for set in bccd crackforest; do cp -r "$shared/data/$set" "$kit/shared/data/"; done
for file in yolov8n-coco-from-int8.pt mobilenet_v2-imagenet-from-int8.pth; do
    cp "$shared/weights/$file" "$kit/shared/weights/"
done

size=$(du -sk "$kit" | cut -f1)
echo "$kit: $(ls "$kit/wheels" | wc -l) wheels, $((size / 1024)) MiB"
(( size <= most )) || { echo "error: $kit is over $((most / 1024)) MiB, more than travels; pack less" >&2; exit 2; }
