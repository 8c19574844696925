#!/usr/bin/env bash
# The whole GPU suite: the tests with the marker `gpu`, then `tools/bench.py gpu`. Under eight minutes on a GPU.
#
#   bash tools/gpu/start.sh bash tools/gpu/suite.sh              on the GPU machine, with the kit
#   bash tools/gpu/start.sh bash tools/gpu/suite.sh --rehearse   the same tests and parts on a CPU, small
#
# $OUT (default runs/gpu) gets tests.txt, gpu.json and gpu.md; what is measured is there also if the run is cut off.
# Exits with 1 where a test or a part of the benchmark failed.
set -uo pipefail
cd "$(dirname "$0")/../.."
export OUT="${OUT:-runs/gpu}"
mkdir -p "$OUT"

# Another torch than CI's: what it deprecates is no error here.
run_tests() { # marker, processes, files
    timeout "${TESTS_SECONDS:-330}" python3 -m pytest "${@:3}" -m "$1" -n "$2" --durations=10 \
        -W ignore::DeprecationWarning 2>&1 | tee "$OUT/tests.txt"
}
measure() { python3 tools/bench.py gpu --out "$OUT" --minutes "${BENCH_MINUTES:-4}" "$@"; }

if [ "${1:-}" = "--rehearse" ]; then
    # Its times say nothing, so the benchmark shares the cores with the tests.
    measure --small > "$OUT/benchmark.txt" 2>&1 &
    run_tests "slow and not gpu" "$(nproc)" tests/gpu
    tests=$?
    wait $!
    measured=$?
    cat "$OUT/benchmark.txt"
else
    run_tests gpu 6 tests/gpu tests/unit/data/test_batches.py tests/plugins/yolo/test_yolo_adapter.py tests/plugins/openmmlab/ops
    tests=$?
    measure
    measured=$?
fi
echo "tests: $([ $tests -eq 0 ] && echo passed || echo "failed ($tests)"), benchmark: $([ $measured -eq 0 ] && echo done || echo failed)"
[ $tests -eq 0 ] && [ $measured -eq 0 ]
