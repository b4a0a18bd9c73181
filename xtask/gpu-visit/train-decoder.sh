#!/bin/sh
# Lets the decoder of faces256 learn on, with losses on a network's features, in the folder RUN for TRAIN_SECONDS seconds, and puts the
# newest file into RUN/fetch. train.sh calls it where `features.onnx` lies beside.
#   ./train-decoder.sh RUN
# Beside it: lddgan, presets, features.onnx, images.parquet, faces256-autoencoder.safetensors.
set -eu
cd "$(dirname "$0")"
run=$1
seconds=${TRAIN_SECONDS:-500}
results=$run/results
mkdir -p "$run/fetch" "$results"

# BATCH IMAGES FROM OUT OPTION...: the discriminators count after FROM images. The encoder stays as it is.
train() {
    awk '/^\[train_autoencoder\]/ { skip = 1 } /^\[train_gan\]/ { skip = 0 } !skip' presets/faces256.toml >"$run/preset.toml"
    cat >>"$run/preset.toml" <<END

[train_autoencoder]
images = $2
batch = $1
crop = 128
learning_rate = 2e-4
final_learning_rate = 1e-5
structure = 0.1
latent_noise = 0.1
features = 1.0
lattice = 0.05
projected = 0.5
projected_from = $3
adversarial = 0.1
adversarial_from = $3
discriminator_learning_rate = 2e-4
discriminator_channels = 32
discriminator_layers = 3
END
    out=$4
    shift 4
    ./lddgan train autoencoder --preset "$run/preset.toml" --data images.parquet --features features.onnx --hold-encoder \
        --backend cuda --precision tf32 --out "$out" --checkpoint-minutes 1 --keep 30 "$@"
}

# The schedule runs over the crops that there is time for, by the rate of a few steps. A plan that was made stays.
batch=16
if [ ! -f "$run/plan" ]; then
    rm -rf "$run/trial"
    train $batch $((batch * 60)) 0 "$run/trial" --autoencoder faces256-autoencoder.safetensors >"$results/trial.log" 2>&1
    python3 - "$run/trial/losses.jsonl" "$batch" "$seconds" >"$run/plan.part" <<'END'
import json, sys
path, batch, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
lines = [json.loads(line) for line in open(path)]
first, last = lines[len(lines) // 2], lines[-2]
rate = (last["images"] - first["images"]) / (last["seconds"] - first["seconds"])
print(batch, int(rate * seconds * 0.85) // batch * batch)
END
    mv "$run/plan.part" "$run/plan"
fi
read -r batch images <"$run/plan"
echo "batch $batch, $images crops"

if [ -d "$run/decoder/checkpoints" ]; then
    set -- --resume
else
    set -- --autoencoder faces256-autoencoder.safetensors
fi
train "$batch" "$images" 2400 "$run/decoder" "$@" >>"$results/decoder.log" 2>&1 &
trainer=$!
trap 'kill $trainer' TERM INT

publish() {
    file=autoencoder.safetensors
    [ ! -f "$run/decoder/$file" ] || { cp "$run/decoder/$file" "$run/$file.part" && mv "$run/$file.part" "$run/fetch/$file"; }
    cp "$run/decoder/losses.jsonl" "$run/decoder/curves.png" "$results" 2>/dev/null || true
    newest=$(ls "$run"/decoder/grid-*.png 2>/dev/null | tail -n 1)
    rm -f "$results"/grid-*.png
    [ -z "$newest" ] || cp "$newest" "$results"
}

while kill -0 $trainer 2>/dev/null; do
    sleep 5
    publish
done
wait $trainer && status=0 || status=$?
publish
exit $status
