#!/bin/sh
# Trains a model from images in the time given, unattended: autoencoder, then generator and discriminator, then figures and
# pictures of what came out. Run again with the same --out, it goes on from where it was, also on another machine that the
# folder was copied to (its files of state have at most 16 MiB). It needs the program `lddgan` and nothing else.
set -eu

usage() {
    cat <<'END'
Usage: train.sh --data PATH --validation PATH --out FOLDER [OPTIONS]

  --data PATH         Training images, as of `lddgan train`
  --validation PATH   Images that are not trained on
  --out FOLDER        Gets runs, and the folder `report` with the model, figures and pictures

  --minutes N         Be done in this time [default: 28]
  --preset PRESET     Name or file [default: faces256]
  --backend NAME      cpu or cuda [default: cpu]
  --precision NAME    f32, tf32 or bf16 [default: f32]
  --count N           Generated images that figures are of [default: 1000]
  --lddgan PROGRAM    [default: lddgan beside this script, else on PATH]
END
}

fail() {
    echo "error: $1" >&2
    exit 1
}

minutes=28 preset=faces256 backend=cpu precision=f32 count=1000 data='' validation='' out=''
lddgan=$(dirname "$0")/lddgan
[ -x "$lddgan" ] || lddgan=lddgan
while [ $# -gt 0 ]; do
    case $1 in
        --help | -h) usage; exit ;;
        --data | --validation | --out | --minutes | --preset | --backend | --precision | --count | --lddgan)
            [ $# -ge 2 ] || fail "$1 needs a value"
            eval "${1#--}=\$2"
            shift 2
            ;;
        *) fail "unknown option $1 (--help lists them)" ;;
    esac
done
[ -n "$data" ] && [ -n "$validation" ] && [ -n "$out" ] || { usage >&2; exit 2; }
case $minutes in '' | *[!0-9]*) fail "--minutes $minutes is no whole number" ;; esac
command -v "$lddgan" >/dev/null || fail "there is no program $lddgan: name it with --lddgan"

started=$(date +%s)
# Whole minutes that are left of all but this many percent.
left() {
    echo $(((minutes * 60 * (100 - $1) / 100 - $(date +%s) + started) / 60))
}

# Runs `lddgan train` on a folder of its own, from its checkpoint if there is one.
train() {
    stage=$1 folder=$2 time=$3
    shift 3
    resume=''
    [ ! -d "$folder/checkpoints" ] || resume=--resume
    echo "--- train $stage, $time minutes"
    "$lddgan" train "$stage" --preset "$preset" --data "$data" --out "$folder" --minutes "$time" --split 16 \
        --keep 1 --backend "$backend" --precision "$precision" $resume "$@"
}

report=$out/report
mkdir -p "$report"
# Once a generator knows the latents, the encoder stays what it is and the decoder alone learns on.
if [ -d "$out/gan/checkpoints" ]; then
    train autoencoder "$out/autoencoder" "$(left 80)" --validation "$validation" --hold-encoder
else
    train autoencoder "$out/autoencoder" "$(left 55)" --validation "$validation"
fi
autoencoder=$out/autoencoder/autoencoder.safetensors
train gan "$out/gan" "$(left 10)" --autoencoder "$autoencoder"

echo "--- report"
model=$report/model.safetensors
cp "$out/gan/model.safetensors" "$model"
cp "$out/autoencoder/curves.png" "$report/curves-autoencoder.png"
cp "$out/gan/curves.png" "$report/curves-gan.png"
"$lddgan" reconstruct --model "$autoencoder" --data "$validation" --grid "$report/reconstructions.jpg"
"$lddgan" sample --model "$model" --backend "$backend" --count 100 --grid "$report/contact-sheet.jpg"
"$lddgan" eval --model "$model" --data "$data" --backend "$backend" --count "$count" \
    --metrics swd,distance,spread,precision,recall --update-model --json "$report/figures.json"
"$lddgan" neighbours --model "$model" --data "$data" --validation "$validation" --backend "$backend" \
    --grid "$report/neighbours.jpg" --json "$report/neighbours.json"
"$lddgan" info --model "$model" >"$report/info.txt"
echo "$report has the model, its figures and pictures"
