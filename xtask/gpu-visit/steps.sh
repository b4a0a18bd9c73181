# shellcheck shell=sh
# Sourced by check.sh and speed.sh, whose results go into the folder $out: steps that stop at no failure.
. ./libraries.sh
mkdir -p "$out"
if ldd ./lddgan | grep 'not found'; then
    echo "error: the libraries above are missing; put their folders into LD_LIBRARY_PATH" >&2
    exit 1
fi
failed=0

# Keeps a step's output and prints its last line, and notes a failure without stopping.
step() {
    name=$1
    shift
    verdict=''
    "$@" >"$out/$name.log" 2>&1 || { failed=1; verdict='FAILED: '; }
    echo "$name: $verdict$(grep -v '^$' "$out/$name.log" | tail -n 1)"
}
