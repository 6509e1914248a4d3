#!/usr/bin/env bash
# Tables of one GPU: operators, layers and networks in bfloat16 and float32 beside the plain operators in the
# same dtype, latency with CUDA graphs, rates stage by stage, backbones, memory. Needs torch, click, tqdm, pillow
# and what the networks import, no installation.
#
#   benchmarks/gpu.sh OUT                all groups, 24 minutes at most
#   benchmarks/gpu.sh OUT GROUP...       some of them; where a call may take ten minutes only, three calls:
#                                        operators | networks latency | training stages backbones
#   benchmarks/gpu.sh OUT --quick ...    the same calls with small cases on the CPU, to see that they work
#
# A table that fails, or runs past its time, leaves the others; the exit code is then 1. PYTHON names the
# interpreter (python3). Each table is OUT/NAME.txt, with its rows as they come, and OUT/NAME.json once it is
# whole; OUT/NAME.err holds everything else it said. OUT/memory.txt sums up the memory of all tables so far.
set -uo pipefail

all_groups=(operators networks latency training stages backbones)
usage() {
    echo "usage: benchmarks/gpu.sh OUT [--quick] [GROUP...], GROUP of: ${all_groups[*]}" >&2
    exit 2
}

[ $# -ge 1 ] && [ "${1#-}" = "$1" ] || usage
out=$1 quick=() groups=()
shift
for word in "$@"; do
    if [ "$word" = --quick ]; then
        quick=(--quick)
    elif [[ " ${all_groups[*]} " == *" $word "* ]]; then
        groups+=("$word")
    else
        usage
    fi
done
[ ${#groups[@]} -gt 0 ] || groups=("${all_groups[@]}")
root=$(cd "$(dirname "$0")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
mkdir -p "$out" || exit 2

if [ ${#quick[@]} -gt 0 ]; then
    device=cpu kernels=() compiled=default graph=default chain=sgxl-tiny-32
    small=sgxl-tiny-16-quick trained=sgxl-tiny-16-quick large=sgxl-tiny-16-quick
    text='sgt-tiny-*' quickest='sgt-tiny-*' passes=(--batch 1 --turns 2 --only EfficientNet)
else
    device=cuda kernels=(--variant triton) compiled=compiled graph=cuda-graph chain=sgxl-imagenet-256
    small='sgxl-imagenet-[136]?' trained='sgxl-imagenet-[16]?' large=sgxl-imagenet-256
    text='sgt-*' quickest=sgt-lite-256 passes=(--batch 1 8)
fi

failed=0
deadline=0
run() { # NAME COMMAND...: into OUT/NAME.txt, within the time that the group has left
    local name=$1 left=$((deadline - SECONDS)) code
    shift
    if [ "$left" -le 0 ]; then
        echo "== $name: left out, the time of its group is spent" | tee "$out/$name.txt"
        failed=1
        return
    fi
    echo "== $name: ${*:2}"
    timeout --kill-after=20 "$left" "$@" 2>"$out/$name.err" | tee "$out/$name.txt"
    code=${PIPESTATUS[0]}
    [ "$code" -ne 124 ] || echo "stopped after $left s, when the time of its group was spent" | tee -a "$out/$name.txt"
    grep -E '^sgxl-t:|Error|Traceback' "$out/$name.err" | tee -a "$out/$name.txt"
    return "$code"
}
table() { # NAME OPTIONS...: one call of the bench; its exit code 1 says that rows are missing, and why
    local name=$1
    shift
    run "$name" "$python" -m sgxl_t.cli bench --device "$device" --json "$out/$name.json" \
        ${quick[@]+"${quick[@]}"} "$@"
    [ $? -le 1 ] || failed=1
}
script() { # NAME FILE OPTIONS...: a file of this folder
    run "$1" "$python" "$root/benchmarks/$2" "${@:3}" || failed=1
}
forms=(--same-dtype --variant default ${kernels[@]+"${kernels[@]}"})

operators() {
    deadline=$((SECONDS + 400))
    script machine machine.py --device "$device" ${quick[@]+"${quick[@]}"}
    table convolutions --same-dtype --only 'modulated_conv*'
    table layers "${forms[@]}" --only 'sgxl-layer-*'
    table filters "${forms[@]}" --only 'filtered_lrelu-*'
    table filters-compiled --same-dtype --variant "$compiled" --only 'filtered_lrelu-*'
}
networks() {
    deadline=$((SECONDS + 330))
    table xl "${forms[@]}" --mode forward --only "$small"
    table t --same-dtype --mode forward --only "$text"
    table xl-large "${forms[@]}" --mode forward --only "$large"
    table xl-compiled --same-dtype --variant "$compiled" --mode forward --batch 4 --only "$small"
}
latency() {
    deadline=$((SECONDS + 180))
    local graphs=(--same-dtype --variant default --variant "$graph" --mode forward --batch 1)
    table latency-t "${graphs[@]}" --only "$quickest"
    table latency-xl "${graphs[@]}" --only "$small"
}
training() {
    deadline=$((SECONDS + 270))
    table xl-training "${forms[@]}" --mode forward_backward --only "$trained"
    table t-training --same-dtype --mode forward_backward --only "$text"
}
stages() {
    deadline=$((SECONDS + 150))
    table stages --stages "$chain" --variant default ${kernels[@]+"${kernels[@]}"}
}
backbones() {
    deadline=$((SECONDS + 110))
    script backbones backbones_speed.py --device "$device" --json "$out/backbones.json" "${passes[@]}"
}

for group in "${groups[@]}"; do
    "$group"
done
deadline=$((SECONDS + 30))
script memory memory_rows.py "$out"
exit "$failed"
