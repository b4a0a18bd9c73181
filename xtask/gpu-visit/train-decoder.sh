#!/bin/sh
# Lets the decoder of faces256 learn on, with losses on a network's features, in the folder RUN for TRAIN_SECONDS seconds: once for each
# preset decoder-NAME.toml beside it, all at the same time, with a checkpoint every CHECKPOINT_MINUTES minutes. Puts means of the checkpoints' weights into RUN/fetch/decoders.tar in parts of
# 15 MiB (`cat decoders.tar.part? | tar -x`): NAME-1 of the second third of the run, NAME-2 of the last.
#   ./train-decoder.sh RUN
# Beside it: lddgan, features.onnx, images.zip, decoder.safetensors (an autoencoder to start with; its encoder stays as it is). With
# faces256.safetensors the discriminators see samples of that generator, too.
set -eu
cd "$(dirname "$0")"
run=$1
end=$(($(date +%s) + ${TRAIN_SECONDS:-500}))
results=$run/results
mkdir -p "$run/fetch" "$results"

generator=''
[ ! -f faces256.safetensors ] || generator='--generator faces256.safetensors'

# PRESET IMAGES OUT OPTION...
train() {
    preset=$1 images=$2 out=$3
    shift 3
    # shellcheck disable=SC2086 # two words
    exec ./lddgan train autoencoder --preset "$preset" --data images.zip --features features.onnx --hold-encoder $generator \
        --backend cuda --precision tf32 --out "$out" --images "$images" --checkpoint-minutes "${CHECKPOINT_MINUTES:-0.3}" --keep 100 "$@"
}

names=''
for preset in decoder-*.toml; do
    [ -f "$preset" ] || { echo "error: no preset decoder-NAME.toml is here" >&2; exit 1; }
    name=${preset#decoder-}
    names="$names ${name%.toml}"
done

# The schedule runs over the crops that there is time for, by the rate of a few steps of all at the same time. A plan that was made stays.
trainers=''
trap 'kill $trainers 2>/dev/null || true' TERM INT
if [ ! -f "$run/decoder-plan" ]; then
    for name in $names; do
        batch=$(awk '/^\[/ { own = /train_autoencoder/ } own && /^batch = / { print $3 }' "decoder-$name.toml")
        rm -rf "$run/trial-$name"
        (train "decoder-$name.toml" $((batch * 60)) "$run/trial-$name" --autoencoder decoder.safetensors --minutes 1) \
            >"$results/trial-$name.log" 2>&1 &
        trainers="$trainers $!"
    done
    # shellcheck disable=SC2086 # several words
    wait $trainers
    # shellcheck disable=SC2086 # several words
    python3 - "$run" $((end - $(date +%s))) $names >"$run/decoder-plan.part" <<'END'
import json, pathlib, sys
run, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
for name in sys.argv[3:]:
    lines = [json.loads(line) for line in open(run / f"trial-{name}" / "losses.jsonl")]
    first, last = lines[len(lines) // 2], lines[-2]
    rate = (last["images"] - first["images"]) / (last["seconds"] - first["seconds"])
    images = int(rate * seconds * 0.85)
    if images <= 0:
        sys.exit(f"error: no time is left: {seconds:.0f} s at {rate:.1f} crops a second")
    print(name, images)
END
    mv "$run/decoder-plan.part" "$run/decoder-plan"
fi
cat "$run/decoder-plan"

trainers=''
while read -r name images; do
    start='--autoencoder decoder.safetensors'
    [ ! -d "$run/decoder-$name/checkpoints" ] || start=--resume
    # shellcheck disable=SC2086 # two words
    (train "decoder-$name.toml" "$images" "$run/decoder-$name" $start) >>"$results/decoder-$name.log" 2>&1 &
    trainers="$trainers $!"
done <"$run/decoder-plan"

# Means of the checkpoints there are, and what tells how the run goes.
publish() {
    folder=$(mktemp -d)
    while read -r name images; do
        [ -d "$run/decoder-$name/checkpoints/" ] || continue
        for third in 1 2; do
            models=''
            for checkpoint in "$run/decoder-$name"/checkpoints/[0-9]*; do
                seen=$(basename "$checkpoint" | sed 's/^0*//')
                place=$((${seen:-0} * 3 / images))
                [ $place -lt 3 ] || place=2
                [ $place != $third ] || models="$models --model $checkpoint/autoencoder.safetensors"
            done
            # A mean is of two or more. One of these may have been cleared away since.
            case $models in
                *--model*--model*)
                    # shellcheck disable=SC2086 # many words
                    ./lddgan average $models --out "$folder/$name-$third.safetensors" >/dev/null 2>&1 || true ;;
            esac
        done
        cp "$run/decoder-$name/losses.jsonl" "$results/decoder-$name.jsonl" 2>/dev/null || true
    done <"$run/decoder-plan"
    if [ -n "$(ls "$folder")" ]; then
        tar -cf - -C "$folder" . | split -b 15M -a 1 -d - "$run/decoders.tar.part"
        rm -f "$run"/fetch/decoders.tar.part?
        mv "$run"/decoders.tar.part? "$run/fetch"
    fi
    rm -rf "$folder"
}

running() {
    for trainer in $trainers; do
        kill -0 "$trainer" 2>/dev/null && return 0
    done
    return 1
}
waited=0
while running; do
    sleep 1
    waited=$((waited + 1))
    [ $((waited % 20)) != 0 ] || publish
done
status=0
for trainer in $trainers; do
    wait "$trainer" || status=$?
done
publish
exit $status
