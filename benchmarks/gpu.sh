#!/usr/bin/env bash
# Tables of one GPU: operators, layers and networks in bfloat16 and float32 beside the plain operators in the
# same dtype, CUDA graphs, bandwidth and matrix rates. Needs torch, click, tqdm and pillow, no installation.
#
#   benchmarks/gpu.sh OUT           all tables, about ten minutes; a table that fails leaves the others
#   benchmarks/gpu.sh OUT --quick   the same calls with small cases on the CPU, to see that they work
#
# PYTHON names the interpreter (python3). Each table is OUT/NAME.json and OUT/NAME.txt.
set -uo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ] || { [ $# -eq 2 ] && [ "$2" != --quick ]; }; then
    echo "usage: benchmarks/gpu.sh OUT [--quick]" >&2
    exit 2
fi
out=$1
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
mkdir -p "$out" || exit 2

if [ "${2:-}" = --quick ]; then
    device=cpu common=(--quick) filters='filtered_lrelu-*' layers='sgxl-layer-*' convs='modulated_conv*'
    small='sgxl-tiny-16-quick' text='sgt-tiny-*' large='sgxl-tiny-16-quick' graphs='sgt-tiny-*'
    all=default graph=default
else
    device=cuda common=() filters='filtered_lrelu-*' layers='sgxl-layer-*' convs='modulated_conv*'
    small='sgxl-imagenet-??' text='sgt-*' large='sgxl-imagenet-256' graphs='sgt-lite-256'
    all=all graph=cuda-graph
fi

failed=0
table() { # NAME OPTIONS...: one call of the bench; exit code 1 says that rows are missing and why
    local name=$1
    shift
    echo "== $name: sgxl-t bench $*"
    "$python" -m sgxl_t.cli bench --device "$device" --json "$out/$name.json" \
        ${common[@]+"${common[@]}"} "$@" 2>"$out/$name.err" | tee "$out/$name.txt"
    local code=${PIPESTATUS[0]}
    # Progress bars end in carriage returns; sentences about missing rows do not.
    tr '\r' '\n' <"$out/$name.err" | grep -E '^sgxl-t:|Error|Traceback' | tee -a "$out/$name.txt" || true
    [ "$code" -le 1 ] || failed=1
}

"$python" "$root/benchmarks/machine.py" --device "$device" ${common[@]+"${common[@]}"} | tee "$out/machine.json" || failed=1
table filters --same-dtype --variant "$all" --only "$filters"
table convolutions --same-dtype --variant default --only "$convs"
table layers --same-dtype --variant "$all" --only "$layers"
table xl --same-dtype --variant "$all" --mode forward --only "$small"
table xl-training --same-dtype --variant "$all" --mode forward_backward --only "$small"
table t --same-dtype --variant default --only "$text"
table t-graph --same-dtype --variant default --variant "$graph" --mode forward --batch 1 --only "$graphs"
table xl-large --same-dtype --variant default --mode forward --only "$large"
exit "$failed"
