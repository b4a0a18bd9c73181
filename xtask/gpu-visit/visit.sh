#!/bin/sh
# One call of a visit to a machine with a GPU: the check first, then training, which waits while figures are taken and runs
# on after the call if the machine lets it. Another call finds the training by itself, on another machine too if the folder
# `run` beside this script holds what the last call brought back.
#   ./visit.sh FOLDER [--check SECONDS] [--speed SECONDS] [--webgpu SECONDS] [--pytorch SECONDS] [--train SECONDS]
# FOLDER gets results.tar.gz and what the training left in `fetch`. Each part has at most so many seconds; a part
# without an option is left out. Training begins if `train.sh` is here, and the call then waits `--train` seconds for it.
#
# train.sh is run as `./train.sh RUN`. It trains in the folder RUN, goes on there if it finds a run, and puts files that
# are to be fetched into RUN/fetch by renaming them there, so that none is ever half written. While it finds out how fast
# it is, there is no RUN/planned; from then on it may be made to wait.
set -u
here=$(cd "$(dirname "$0")" && pwd) || exit 1
cd "$here" || exit 1
out=${1:-}
[ -n "$out" ] || { echo "error: name the folder that gets the results" >&2; exit 2; }
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
shift
check=0 speed=0 webgpu=0 pytorch=0 train=0
while [ $# -gt 0 ]; do
    case $1 in
        --check | --speed | --webgpu | --pytorch | --train) ;;
        *) echo "error: unknown option $1" >&2; exit 2 ;;
    esac
    case ${2:-} in '' | *[!0-9]*) echo "error: $1 needs a whole number of seconds" >&2; exit 2 ;; esac
    eval "${1#--}=\$2"
    shift 2
done

# Not in this folder, which another call may replace.
run=${GPU_VISIT_RUN:-/tmp/gpu-visit}
[ -d "$run" ] || [ ! -d run ] || cp -R run "$run"
results=$run/results
mkdir -p "$results" "$run/fetch" || exit 1
begun=$(date +%s)

# Brings back what there is so far: a call that is cut off has lost nothing but the part under way.
bring() {
    tar -czf "$out/results.tar.gz.part" -C "$run" results && mv "$out/results.tar.gz.part" "$out/results.tar.gz"
    cp "$run"/fetch/* "$out" 2>/dev/null
    return 0
}

# NAME SECONDS COMMAND: shows its output and keeps it; the part's status is in results/NAME.status.
part() {
    name=$1 seconds=$2
    shift 2
    [ "$seconds" -gt 0 ] || return 0
    echo "=== $name, at most $seconds s, at $(($(date +%s) - begun)) s"
    { timeout -k 5 "$seconds" "$@" 2>&1; echo $? >"$results/$name.status"; } | tee "$results/$name.log"
    bring
}

trains() {
    [ -f "$run/train.pid" ] && kill -0 "$(cat "$run/train.pid")" 2>/dev/null
}
# Sends this signal to a training that runs.
training() {
    ! trains || kill -s "$1" -- "-$(cat "$run/train.pid")" 2>/dev/null
    return 0
}
trap 'training CONT' EXIT

training STOP
part check "$check" ./check.sh "$results/check"
training CONT
if [ -x train.sh ]; then
    if trains; then
        echo "=== training goes on"
    else
        case $(cat "$results/check.status" 2>/dev/null) in
            '' | 0) ;;
            *) echo "=== the check failed; what is trained all the same has to be looked at closely" ;;
        esac
        echo "=== training starts, at $(($(date +%s) - begun)) s"
        setsid ./train.sh "$run" >>"$results/train.log" 2>&1 &
        echo $! >"$run/train.pid"
    fi
    while trains && [ ! -f "$run/planned" ]; do
        sleep 1
    done
fi

# Training waits meanwhile, so that figures are those of an idle GPU.
training STOP
part speed "$speed" ./speed.sh "$results/speed"
# The scripts need a few seconds more than they are told.
part webgpu "$webgpu" ./webgpu.sh --seconds $((webgpu - 4)) "$results/webgpu"
part pytorch "$pytorch" python3 -u pytorch_gpu.py --budget $((pytorch - 4)) --json "$results/pytorch.json" \
    --presets presets/faces256.toml presets/cifar10.toml presets/celebahq256.toml presets/church256.toml

training CONT
if [ -x train.sh ]; then
    end=$(($(date +%s) + train))
    while trains && [ "$(date +%s)" -lt $end ]; do
        sleep 1
    done
    tail -n 5 "$results/train.log"
    bring
fi
echo "=== done after $(($(date +%s) - begun)) s"
ls -l "$out"
