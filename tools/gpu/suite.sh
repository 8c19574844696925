#!/usr/bin/env bash
# The whole GPU suite: the tests with the marker `gpu`, then `tools/bench.py gpu`. Under eight minutes on a GPU.
#
#   bash tools/gpu/start.sh bash tools/gpu/suite.sh              on the GPU machine, with the kit
#   bash tools/gpu/start.sh bash tools/gpu/suite.sh --rehearse   the same tests and parts on a CPU, small
#
# $OUT (default runs/gpu) gets tests.txt, gpu.json and gpu.md; what is measured is there also if the run is cut off.
# Exits with 1 where a test failed or nothing could be measured.
set -uo pipefail
cd "$(dirname "$0")/../.."
export OUT="${OUT:-runs/gpu}"
mkdir -p "$OUT"
marker="gpu" small=() processes=6 files=(tests/gpu tests/unit/data/test_batches.py tests/plugins/yolo/test_yolo_adapter.py
    tests/plugins/openmmlab/ops)
if [ "${1:-}" = "--rehearse" ]; then
    marker="slow and not gpu" small=(--small) processes="$(nproc)" files=(tests/gpu)
fi
# Another torch than CI's: what it deprecates is no error here.
timeout "${TESTS_SECONDS:-330}" python3 -m pytest "${files[@]}" -m "$marker" -n "$processes" -q --durations=10 \
    -W ignore::DeprecationWarning 2>&1 | tee "$OUT/tests.txt"
tests=$?
python3 tools/bench.py gpu --out "$OUT" "${small[@]}" --minutes "${BENCH_MINUTES:-4}"
measured=$?
echo "tests: $([ $tests -eq 0 ] && echo passed || echo "failed ($tests)"), benchmark: $([ $measured -eq 0 ] && echo done || echo failed)"
[ $tests -eq 0 ] && [ $measured -eq 0 ]
