"""Sampling in ONNX Runtime on the CPU, beside `lddgan bench sample`, in one run.

    python3 trainer/benches/onnx_runtime_peer.py --model web/models/faces64.safetensors

With `--rten PROGRAM`, rten takes part: `cargo bench -p lddgan-trainer --bench rten_peer --no-run` builds and names the program.
Needs onnxruntime and numpy. The networks are those that `lddgan export --onnx` writes. All programs take turns, so that a
busy machine slows all. Between two steps the peer mixes prediction, latent and noise as sampling does, with weights of
its own: they do not matter for its time.
"""

import argparse
import json
import os
import subprocess
import tempfile
import time

import numpy as np
import onnxruntime


class Peer:
    def __init__(self, folder, batch, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = lambda name: onnxruntime.InferenceSession(
            f"{folder}/{name}.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.generator, self.decoder, self.batch = session("generator"), session("decoder"), batch
        config = json.loads(self.generator.get_modelmeta().custom_metadata_map["lddgan"])
        diffusion = config["diffusion"]
        self.steps = len(diffusion["alpha_bar"]) if "alpha_bar" in diffusion else diffusion["steps"]
        shapes = {value.name: [batch, *value.shape[1:]] for value in self.generator.get_inputs()}
        random = np.random.default_rng(0)
        draw = lambda name: random.standard_normal(shapes[name], np.float32)
        self.x, self.z, self.noise = draw("x"), draw("z"), draw("x")

    def sample(self):
        x = self.x
        for t in reversed(range(self.steps)):
            inputs = {"x": x, "z": self.z, "t": np.full(self.batch, t, np.int64)}
            (x0,) = self.generator.run(None, inputs)
            x = 0.5 * x0 + 0.3 * x + 0.2 * self.noise
        return self.decoder.run(["image"], {"latent": x})[0]


def time_peer(peer, seconds):
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        peer.sample()
        images += peer.batch
    return images / (time.perf_counter() - started)


def time_lddgan(options, backend):
    environment = {**os.environ, "RAYON_NUM_THREADS": str(options.threads)}
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [options.lddgan, "bench", "sample", "--model", options.model, "--backend", backend]
        command += ["--batch", str(options.batch), "--warm-up", "1", "--seconds", str(options.seconds)]
        command += ["--tune"] if backend == "wgpu" else []
        subprocess.run([*command, "--json", report.name], check=True, capture_output=True, env=environment)
        return json.load(open(report.name))["seconds"]["images_per_second"]


def time_rten(options, folder, steps):
    environment = {**os.environ, "RTEN_NUM_THREADS": str(options.threads)}
    command = [options.rten, folder, str(options.batch), str(options.seconds), str(steps)]
    return float(subprocess.run(command, check=True, capture_output=True, env=environment, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lddgan", default="target/release/lddgan", help="the program")
    parser.add_argument("--model", default="web/models/faces64.safetensors", help="model file")
    parser.add_argument("--backends", default="cpu,candle,wgpu", help="of lddgan")
    parser.add_argument("--rten", help="the program rten_peer")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both on the CPU")
    parser.add_argument("--seconds", type=float, default=10, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    backends = options.backends.split(",")
    rates = {f"lddgan, {backend}": [] for backend in backends}
    theirs = f"ONNX Runtime {onnxruntime.__version__}, CPU"
    rates[theirs] = []
    if options.rten:
        rates["rten"] = []
    with tempfile.TemporaryDirectory() as folder:
        command = [options.lddgan, "export", "--model", options.model, "--onnx", folder]
        subprocess.run(command, check=True, capture_output=True)
        peer = Peer(folder, options.batch, options.threads)
        peer.sample()
        for _ in range(options.turns):
            for backend in backends:
                rates[f"lddgan, {backend}"].append(time_lddgan(options, backend))
            rates[theirs].append(time_peer(peer, options.seconds))
            if options.rten:
                rates["rten"].append(time_rten(options, folder, peer.steps))
    median = lambda values: sorted(values)[len(values) // 2]
    print(f"{options.model}, batch {options.batch}, {options.threads} threads, images/s, median of {options.turns} turns (slowest to fastest):")
    for name, values in rates.items():
        ratio = median(values) / median(rates[theirs])
        print(f"{name}: {median(values):.2f} ({min(values):.2f} to {max(values):.2f}), ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
