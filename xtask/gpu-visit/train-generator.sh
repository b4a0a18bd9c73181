#!/bin/sh
# Trains faces256 on encoded latents in the folder RUN for TRAIN_SECONDS seconds, and puts the newest model file into RUN/fetch in parts of 15 MiB (`cat model-N.part? >model-N.safetensors`); at the end also the
# best one by its distance, if that is another and no decoder needs the room (`cat best.part? >best.safetensors`).
#   ./train-generator.sh RUN
# Beside it: lddgan, presets, latents.safetensors of `lddgan data encode`, faces256-autoencoder.safetensors. With
# faces256.safetensors and faces256-discriminator.safetensors it starts with those networks.
set -eu
cd "$(dirname "$0")"
run=$1
begun=$(date +%s)
seconds=${TRAIN_SECONDS:-500}
results=$run/results
mkdir -p "$run/fetch" "$results"

# The batch that the shipped model was trained with: on an H100 one of 32 takes three quarters of its time a step, and one of 128
# passes 1.4 times as many latents a second in 0.7 times as many steps. Learning rates are those for batches of 16: Adam's step does
# not grow with the batch, and a larger one steadies the discriminator. The average over 1,000 steps is one over 64,000 latents, a
# twentieth of the run.
batch=64
sed "/^\\[train_gan\\]/,\$ s/^batch = .*/batch = $batch/" presets/faces256.toml >"$run/preset.toml"
# The generator's rate falls over as many latents as there is time for, by the rate of some steps. A plan that was made stays.
if [ ! -f "$run/plan" ]; then
    ./lddgan bench train --preset "$run/preset.toml" --backend cuda --precision tf32 --warm-up 24 \
        --seconds $((seconds / 60 + 1)) --json "$run/trial.json"
    python3 - "$run/trial.json" $((begun + seconds - $(date +%s))) $batch >"$run/plan.part" <<'END'
import json, sys
trial, seconds, batch = sys.argv[1:]
rate = json.load(open(trial))["seconds"]["images_per_second"]
images = int(rate * float(seconds) * 0.93) // int(batch) * int(batch)
if images <= 0:
    sys.exit(f"error: no time is left: {seconds} s at {rate:.1f} latents a second")
print(images)
END
    mv "$run/plan.part" "$run/plan"
fi
images=$(cat "$run/plan")
echo "batch $batch, $images latents"

if [ -d "$run/gan/checkpoints" ]; then
    set -- --resume
elif [ -f faces256.safetensors ] && [ -f faces256-discriminator.safetensors ]; then
    set -- --generator faces256.safetensors --discriminator faces256-discriminator.safetensors
else
    set --
fi
./lddgan train gan --preset "$run/preset.toml" --latents latents.safetensors --out "$run/gan" --backend cuda \
    --precision tf32 --autoencoder faces256-autoencoder.safetensors --images "$images" --checkpoint-minutes 1 --keep 30 \
    "$@" >>"$results/gan.log" 2>&1 &
trainer=$!
trap 'kill $trainer' TERM INT

# Puts the model of a checkpoint where it is fetched.
publish() {
    name=model-$(basename "$1")
    [ ! -f "$run/fetch/$name.part0" ] || return 0
    split -b 15M -a 1 -d "$1/model.safetensors" "$run/$name.part"
    rm -f "$run"/fetch/model-*
    mv "$run/$name".part? "$run/fetch"
    cp "$run/gan/losses.jsonl" "$run/gan/curves.png" "$results" 2>/dev/null || true
    newest=$(ls "$run"/gan/grid-*.png | tail -n 1)
    rm -f "$results"/grid-*.png
    cp "$newest" "$results" 2>/dev/null || true
}

while kill -0 $trainer 2>/dev/null; do
    sleep 2
    newest=$(ls -d "$run"/gan/checkpoints/[0-9]* 2>/dev/null | tail -n 1)
    [ -z "$newest" ] || publish "$newest"
done
wait $trainer && status=0 || status=$?
newest=$(ls -d "$run"/gan/checkpoints/[0-9]* 2>/dev/null | tail -n 1)
[ -z "$newest" ] || publish "$newest"
best=$run/gan/model-best.safetensors
if [ ! -f features.onnx ] && [ -f "$best" ] && ! cmp -s "$best" "$run/gan/model.safetensors"; then
    split -b 15M -a 1 -d "$best" "$run/best.part"
    rm -f "$run"/fetch/best.part?
    mv "$run"/best.part? "$run/fetch"
fi
cp "$run/gan/discriminator.safetensors" "$run/fetch" 2>/dev/null || true
exit $status
