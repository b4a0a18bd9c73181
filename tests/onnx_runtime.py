"""Compares exported ONNX files with `lddgan run`, in ONNX Runtime on the CPU.

    pip install onnxruntime onnx safetensors
    target/release/lddgan export --model MODEL --onnx FOLDER
    python tests/onnx_runtime.py MODEL FOLDER

Checks the files with ONNX's own checker, then both networks for batches of 1 and 3. Ends with an error if an f32 file
differs by more than 1e-4 or an f16 file's outputs by more than a PSNR of 40 dB.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from safetensors.numpy import load_file, save_file

LDDGAN = pathlib.Path(__file__).resolve().parent.parent / "target/release/lddgan"


def lddgan_run(network, model, inputs):
    with tempfile.TemporaryDirectory() as folder:
        save_file(inputs, f"{folder}/in.safetensors")
        files = ["--inputs", f"{folder}/in.safetensors", "--outputs", f"{folder}/out.safetensors"]
        command = [LDDGAN, "run", "--network", network, "--model", model, *files]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return load_file(f"{folder}/out.safetensors")


def draw(random, inputs, batch):
    """Inputs for a session: the steps 0 to 3 for integers, normal numbers for the others."""
    values = {}
    for value in inputs:
        integer = value.type == "tensor(int64)"
        shape = [batch, *value.shape[1:]]
        values[value.name] = np.arange(batch) % 4 if integer else random.standard_normal(shape).astype(np.float32)
    return values


def check(network, model, path):
    onnx.checker.check_model(str(path), full_check=True)
    half = any(node.op_type == "Cast" for node in onnx.load(path).graph.node)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(0)
    for batch in (1, 3):
        inputs = draw(random, session.get_inputs(), batch)
        expected = lddgan_run(network, model, inputs)
        for output, found in zip(session.get_outputs(), session.run(None, inputs)):
            error = np.abs(found - expected[output.name])
            span = np.abs(expected[output.name]).max()
            psnr = 10 * np.log10((2 * span) ** 2 / np.square(error, dtype=np.float64).mean().clip(1e-30))
            kind = "f16" if half else "f32"
            print(f"{network}, {kind}, batch {batch}: largest error {error.max():.1e}, PSNR {psnr:.0f} dB")
            assert psnr >= 40 if half else error.max() <= 1e-4, "differs too much"


def main(model, folder):
    for network in ("generator", "decoder"):
        path = pathlib.Path(folder) / f"{network}.onnx"
        if path.exists():
            check(network, model, path)


main(*sys.argv[1:])
