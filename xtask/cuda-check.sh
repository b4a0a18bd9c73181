#!/bin/sh
# Correctness and speed of the program on this machine's NVIDIA GPU. Self-contained: it needs this folder, a driver, and
# CUDA's libraries, from a toolkit or from Python's nvidia wheels (as PyTorch brings them).
#   ./check.sh [FOLDER FOR THE RESULTS]
set -eu
cd "$(dirname "$0")"
out=${1:-results}
mkdir -p "$out"

wheels=$(python3 -c 'import glob, nvidia; print(":".join(d for p in nvidia.__path__ for d in glob.glob(p + "/*/lib")))' \
    2>/dev/null || true)
export LD_LIBRARY_PATH="${wheels:+$wheels:}${LD_LIBRARY_PATH:-}"
if ldd ./lddgan | grep 'not found'; then
    echo "error: the libraries above are missing; put their folders into LD_LIBRARY_PATH" >&2
    exit 1
fi
if ! nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv >"$out/gpu.csv"; then
    echo "error: there is no NVIDIA GPU or no driver" >&2
    exit 1
fi
cat "$out/gpu.csv"
failed=0

# Prints what is run, keeps its output, and notes a failure without stopping.
step() {
    name=$1
    shift
    echo "--- $name: $*"
    "$@" >"$out/$name.log" 2>&1 || { failed=1; echo "FAILED: $name"; }
    tail -n 8 "$out/$name.log"
}

# The tests of second-order gradients need this.
export CANDLE_GRAD_DO_NOT_DETACH=1
unset RUST_BACKTRACE # errors are whole sentences
step operations ./operations cuda --nocapture --test-threads=1
if grep -q 'NOT RUN' "$out/operations.log"; then
    failed=1
    echo "FAILED: there was no CUDA device to compare with the CPU"
fi

# Noise, latents and images of a whole model against the CPU.
step faces64 ./lddgan check --model faces64.safetensors --backend cuda --json "$out/check.json"
step faces ./lddgan sample --model faces64.safetensors --backend cuda --count 64 --grid "$out/faces64.png"

# The network that is trained here first: what a step takes with each batch tells which one to train with. By the end of
# the warm-up both halves of a step are recorded, with and without the penalty.
for batch in 64 16 32 128 256; do
    step "train-faces256-tf32-$batch" ./lddgan bench train --preset faces256 --backend cuda --precision tf32 \
        --batch $batch --warm-up 24 --seconds 7 --json "$out/train-faces256-tf32-$batch.json"
done
for preset in faces256 cifar10 celebahq256 church256; do
    step "sample-$preset" ./lddgan bench sample --preset $preset --backend cuda --batch 100 --seconds 6 \
        --json "$out/sample-$preset.json"
done
for precision in f32 bf16 tf32; do
    for preset in faces256 cifar10 celebahq256; do
        step "train-$preset-$precision" ./lddgan bench train --preset $preset --backend cuda --precision $precision \
            --batch 64 --warm-up 24 --seconds 7 --json "$out/train-$preset-$precision.json"
    done
done
[ $failed = 0 ] && echo "all checks passed; figures are in $out"
exit $failed
