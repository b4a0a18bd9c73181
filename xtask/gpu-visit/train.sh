#!/bin/sh
# Trains in the folder RUN what the files beside it allow, at the same time: the generator of faces256 where latents.safetensors is
# (train-generator.sh), and its decoder where features.onnx is (train-decoder.sh). Both have TRAIN_SECONDS seconds, 500 unless given.
# RUN/planned is there once both know how far they get in these.
#   ./train.sh RUN
set -eu
cd "$(dirname "$0")"
run=$1
trainers='' plans=''
[ ! -f latents.safetensors ] || { ./train-generator.sh "$run" & trainers="$trainers $!" plans="$plans $run/plan"; }
[ ! -f features.onnx ] || { ./train-decoder.sh "$run" & trainers="$trainers $!" plans="$plans $run/decoder-plan"; }
[ -n "$trainers" ] || { echo "error: neither latents.safetensors nor features.onnx is here: nothing to train" >&2; exit 1; }
trap 'kill $trainers' TERM INT

running() {
    for trainer in $trainers; do
        kill -0 "$trainer" 2>/dev/null && return 0
    done
    return 1
}
for plan in $plans; do
    while running && [ ! -f "$plan" ]; do
        sleep 1
    done
done
: >"$run/planned"
status=0
for trainer in $trainers; do
    wait "$trainer" || status=$?
done
exit $status
