#!/usr/bin/env bash
# Install the kit and the project on a machine without network, then run a command there:
#
#   bash tools/gpu/start.sh bash tools/gpu/suite.sh
#
# $SITE is where the packages go (default /tmp/tlvision-site); nothing else of the machine is changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
kit="$PWD/.gpu_kit" site="${SITE:-/tmp/tlvision-site}"
[ -d "$kit/wheels" ] || { echo "error: there is no .gpu_kit/wheels; run tools/gpu/pack.sh where there is a network" >&2; exit 2; }
offline=(--no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check)
python3 -m pip install -q "${offline[@]}" --upgrade --target "$site" "$kit"/wheels/*.whl
# The project for its entry points; its code comes from the tree, which stands first.
PYTHONPATH="$site" python3 -m pip install -q "${offline[@]}" --no-build-isolation --upgrade --target "$site" .
rm -rf build
export PYTHONPATH="$PWD:$PWD/plugins:$site" PATH="$site/bin:$PATH" PYTHONUNBUFFERED=1
export TLVISION_SHARED="$kit/shared" YOLO_AUTOINSTALL=false YOLO_OFFLINE=true
python3 - <<'P'
import platform

import torch

from tlvision.plugin import plugin_names

place = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no GPU"
print(f"Python {platform.python_version()}, torch {torch.__version__}, {place}; plugins: {', '.join(plugin_names())}")
P
"$@"
