#!/bin/sh
# Trains faces256 on encoded latents in the folder RUN, with the largest batch that the GPU still gains by, for TRAIN_SECONDS
# seconds, and puts the newest model file into RUN/fetch in parts of 15 MiB (`cat model-N.part? >model-N.safetensors`); at the end also the
# best one by its distance, if that is another and no decoder needs the room (`cat best.part? >best.safetensors`).
#   ./train-generator.sh RUN
# Beside it: lddgan, presets, latents.safetensors of `lddgan data encode`, faces256-autoencoder.safetensors. With
# faces256.safetensors and faces256-discriminator.safetensors it starts with those networks.
set -eu
cd "$(dirname "$0")"
run=$1
seconds=${TRAIN_SECONDS:-500}
results=$run/results
mkdir -p "$run/fetch" "$results"

# A batch of twice the size is worth it while it trains half as many latents more in a second. Learning rates stay: Adam's
# step does not grow with the batch, and a larger one steadies the discriminator.
if [ ! -f "$run/plan" ]; then
    python3 - "$results/check" "$seconds" >"$run/plan.part" <<'END'
import json, pathlib, sys
folder, seconds = pathlib.Path(sys.argv[1]), float(sys.argv[2])
rate = lambda batch: json.load(open(folder / f"train-faces256-tf32-{batch}.json"))["seconds"]["images_per_second"]
rates = {batch: rate(batch) for batch in (32, 64, 128) if (folder / f"train-faces256-tf32-{batch}.json").exists()}
if not rates:
    sys.exit("error: no step of training was timed, so nothing is trained")
batch = min(rates)
while 2 * batch in rates and rates[2 * batch] >= 1.5 * rates[batch]:
    batch *= 2
images = int(rates[batch] * seconds * 0.93) // batch * batch
print(batch, images)
END
    mv "$run/plan.part" "$run/plan"
fi
read -r batch images <"$run/plan"
sed "/^\\[train_gan\\]/,\$ s/^batch = .*/batch = $batch/" presets/faces256.toml >"$run/preset.toml"
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
