# shellcheck shell=sh
# Sourced by the scripts beside it: CUDA's libraries, where Python's nvidia wheels have them (PyTorch brings these).
wheels=$(python3 -c 'import glob, nvidia; print(":".join(d for p in nvidia.__path__ for d in glob.glob(p + "/*/lib")))' \
    2>/dev/null || true)
export LD_LIBRARY_PATH="${wheels:+$wheels:}${LD_LIBRARY_PATH:-}"
unset RUST_BACKTRACE # errors are whole sentences
