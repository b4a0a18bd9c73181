#!/bin/sh
# Correctness of the program on this machine's NVIDIA GPU. Self-contained: it needs this folder, a driver, and CUDA's
# libraries, from a toolkit or from Python's nvidia wheels. Its figures are those of speed.sh.
#   ./check.sh [FOLDER FOR THE RESULTS]
set -eu
cd "$(dirname "$0")"
out=${1:-results}
. ./steps.sh

if ! nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv >"$out/gpu.csv"; then
    echo "error: there is no NVIDIA GPU or no driver" >&2
    exit 1
fi
cat "$out/gpu.csv"

# Operations and their derivatives against the CPU. The tests of second-order gradients need the variable.
export CANDLE_GRAD_DO_NOT_DETACH=1
step operations ./operations cuda --nocapture --test-threads=1
if grep -q 'NOT RUN' "$out/operations.log"; then
    failed=1
    echo "FAILED: there was no CUDA device to compare with the CPU"
fi

# Noise, latents and images of whole models in f32, and with fewer bits the images, against recorded tensors, or against the CPU
# where these are not here.
for model in faces64 faces256; do
    [ -f $model.safetensors ] || continue
    golden=''
    [ ! -f $model.golden.safetensors ] || golden="--golden $model.golden.safetensors"
    for precision in f32 tf32 bf16; do
        # shellcheck disable=SC2086 # two words
        step $model-$precision ./lddgan check --model $model.safetensors $golden --backend cuda --precision $precision \
            --json "$out/check-$model-$precision.json"
    done
done
step faces ./lddgan sample --model faces64.safetensors --backend cuda --count 64 --grid "$out/faces64.png"
[ $failed = 0 ] && echo "all checks passed; what was found is in $out"
exit $failed
