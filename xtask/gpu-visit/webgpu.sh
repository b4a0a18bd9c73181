#!/bin/sh
# Correctness and speed of sampling with WebGPU on this machine's GPU, the most valuable first. It needs the program
# `lddgan` and the models beside it, and a Vulkan driver with its loader (Debian: libvulkan1, and for NVIDIA's driver libegl1 and
# libgl1).
#   ./webgpu.sh [--seconds ALL STEPS TOGETHER] [FOLDER FOR THE RESULTS]
set -u
cd "$(dirname "$0")" || exit 1
budget=120
if [ "${1:-}" = --seconds ]; then
    case ${2:-} in '' | *[!0-9]*) echo "error: --seconds needs a whole number" >&2; exit 2 ;; esac
    budget=$2
    shift 2
fi
out=${1:-results}
mkdir -p "$out" || exit 1
end=$(($(date +%s) + budget))

# A program with CUDA starts only with CUDA's libraries.
. ./libraries.sh
# Containers have the driver where the loader does not look.
mounted=/usr/local/nvidia/share/vulkan/icd.d/nvidia_icd.json
if [ -z "${VK_DRIVER_FILES:-}" ] && [ -f "$mounted" ]; then
    export VK_DRIVER_FILES=$mounted
fi
XDG_CACHE_HOME=$(mktemp -d) || exit 1
export XDG_CACHE_HOME XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-$XDG_CACHE_HOME}"
trap 'rm -rf "$XDG_CACHE_HOME"' EXIT

failed=0 skipped=''

# Runs lddgan for at most so many seconds, and prints one line: the last of its output that matches the pattern.
step() {
    name=$1 limit=$2 pattern=$3
    shift 3
    begun=$(date +%s)
    left=$((end - begun))
    if [ $left -lt 2 ]; then
        skipped="$skipped $name"
        return
    fi
    [ "$limit" -le $left ] || limit=$left
    timeout -k 2 "$limit" ./lddgan "$@" --json "$out/$name.json" >"$out/$name.log" 2>&1
    status=$?
    result=$(grep "$pattern" "$out/$name.log" | tail -n 1)
    [ $status -eq 0 ] || { failed=1; result="FAILED: $(tail -n 1 "$out/$name.log")"; }
    [ $status -ne 124 ] || result="FAILED: not done after $limit s"
    echo "$name ($(($(date +%s) - begun)) s): $result"
    case $result in *'no WebGPU adapter'*) exit 1 ;; esac
}

# Models that are not here are left out.
check() {
    [ -f "$1.safetensors" ] || return 0
    step "check-$1" 20 '^image' check --model "$1.safetensors" --golden "$1.golden.safetensors" --backend wgpu
}

# NAME BATCH DTYPE [OPTIONS]: a model whose file is here, or a preset.
sample() {
    source="--preset $1"
    [ ! -f "$1.safetensors" ] || source="--model $1.safetensors"
    name=sample-$1-$2-$3${4:-} batch=$2 dtype=$3
    shift 3
    # shellcheck disable=SC2086 # two words
    step "$name" 30 'images/s' bench sample $source --backend wgpu --dtype "$dtype" --batch "$batch" --warm-up 3 \
        --trials 1000 --seconds 1 "$@"
}

# NAME BATCH DTYPE [OPTIONS]
kernels() {
    [ -f "$1.safetensors" ] || return 0
    name=kernels-$1-$2-$3${4:-} model=$1.safetensors batch=$2 dtype=$3
    shift 3
    step "$name" 60 '^kernels of' bench kernels --model "$model" --dtype "$dtype" --batch "$batch" --trials 5 "$@"
    [ ! -f "$out/$name.log" ] || grep '^ceilings' "$out/$name.log"
}

check faces256
check faces64
# The functions' variables are these loops' too: they must differ.
for numbers in f32 f16; do
    sample faces256 16 $numbers
done
kernels faces256 16 f32
sample faces256 16 f32 --tune
sample faces256 16 f16 --tune
for size in 16 1 64 4; do
    for subject in faces256 cifar10 faces64 celebahq256; do
        [ $subject-$size = faces256-16 ] || { sample $subject $size f32; sample $subject $size f16; }
    done
done
kernels faces256 16 f16
kernels faces256 1 f32 --tune
kernels faces64 16 f32 --tune

# What was found out about convolution kernels is worth keeping.
cp "$XDG_CACHE_HOME"/lddgan/kernels-*.json "$out" 2>/dev/null || true
[ -z "$skipped" ] || echo "the time was over before:$skipped"
[ $failed = 0 ] || echo "some steps failed: their logs are in $out"
exit $failed
