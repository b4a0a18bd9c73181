#!/bin/sh
# Times of training and sampling on this machine's NVIDIA GPU, the most valuable first. Needs what check.sh needs.
#   ./speed.sh [FOLDER FOR THE RESULTS]
set -eu
cd "$(dirname "$0")"
out=${1:-results}
. ./steps.sh

# By the end of the warm-up both halves of a step are recorded, with and without the penalty.
time_training() { # PRESET PRECISION BATCH
    step "train-$1-$2-$3" ./lddgan bench train --preset "$1" --backend cuda --precision "$2" --batch "$3" --warm-up 24 \
        --seconds 3 --json "$out/train-$1-$2-$3.json"
}
time_sampling() { # PRESET PRECISION
    step "sample-$1-$2" ./lddgan bench sample --preset "$1" --backend cuda --precision "$2" --batch 100 --seconds 2 \
        --json "$out/sample-$1-$2.json"
}
time_training faces256 tf32 64
for precision in tf32 f32 bf16; do
    time_sampling faces256 $precision
done
for preset in cifar10 celebahq256 church256; do
    time_sampling $preset tf32
done
time_training cifar10 tf32 64
time_training celebahq256 tf32 64
for batch in 128 32; do
    time_training faces256 tf32 $batch
done
for preset in faces256 cifar10 celebahq256; do
    time_training $preset bf16 64
    time_training $preset f32 64
done
[ $failed = 0 ] && echo "all figures are in $out"
exit $failed
