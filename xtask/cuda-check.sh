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

# Keeps a step's output and prints its last line, and notes a failure without stopping.
step() {
    name=$1
    shift
    verdict=''
    "$@" >"$out/$name.log" 2>&1 || { failed=1; verdict='FAILED: '; }
    echo "$name: $verdict$(grep -v '^$' "$out/$name.log" | tail -n 1)"
}

# The tests of second-order gradients need this.
export CANDLE_GRAD_DO_NOT_DETACH=1
unset RUST_BACKTRACE # errors are whole sentences
step operations ./operations cuda --nocapture --test-threads=1
if grep -q 'NOT RUN' "$out/operations.log"; then
    failed=1
    echo "FAILED: there was no CUDA device to compare with the CPU"
fi

# Noise, latents and images of whole models against the CPU, in f32, and with fewer bits the images.
for model in faces64 faces256; do
    [ -f $model.safetensors ] || continue
    for precision in f32 tf32 bf16; do
        step $model-$precision ./lddgan check --model $model.safetensors --backend cuda --precision $precision \
            --json "$out/check-$model-$precision.json"
    done
done
step faces ./lddgan sample --model faces64.safetensors --backend cuda --count 64 --grid "$out/faces64.png"

# What is trained here first: what a step takes with each batch tells which one to train with. By the end of the warm-up
# both halves of a step are recorded, with and without the penalty.
time_training() { # PRESET PRECISION BATCH
    step "train-$1-$2-$3" ./lddgan bench train --preset "$1" --backend cuda --precision "$2" --batch "$3" --warm-up 24 \
        --seconds 4 --json "$out/train-$1-$2-$3.json"
}
time_sampling() { # PRESET PRECISION
    step "sample-$1-$2" ./lddgan bench sample --preset "$1" --backend cuda --precision "$2" --batch 100 --seconds 3 \
        --json "$out/sample-$1-$2.json"
}
for batch in 64 128 32; do
    time_training faces256 tf32 $batch
done
time_training faces256 bf16 64
for precision in f32 tf32 bf16; do
    time_sampling faces256 $precision
done
time_training cifar10 tf32 64
time_training celebahq256 tf32 64
for preset in cifar10 celebahq256 church256; do
    time_sampling $preset tf32
done
for preset in cifar10 celebahq256; do
    time_training $preset bf16 64
done
for preset in faces256 cifar10 celebahq256; do
    time_training $preset f32 64
done
[ $failed = 0 ] && echo "all checks passed; figures are in $out"
exit $failed
