#!/bin/sh
# Trains in the folder RUN what the files beside it allow, at the same time: the generator of faces256 where latents.safetensors is
# (train-generator.sh), and its decoder where features.onnx is (train-decoder.sh). Both have TRAIN_SECONDS seconds, 500 unless given.
#   ./train.sh RUN
set -eu
cd "$(dirname "$0")"
trainers=''
[ ! -f latents.safetensors ] || { ./train-generator.sh "$1" & trainers="$trainers $!"; }
[ ! -f features.onnx ] || { ./train-decoder.sh "$1" & trainers="$trainers $!"; }
[ -n "$trainers" ] || { echo "error: neither latents.safetensors nor features.onnx is here: nothing to train" >&2; exit 1; }
trap 'kill $trainers' TERM INT
status=0
for trainer in $trainers; do
    wait "$trainer" || status=$?
done
exit $status
