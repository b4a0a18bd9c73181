"""Sampling and training steps of presets in PyTorch on a GPU: what `lddgan bench sample` and `bench train` are to be
compared with.

    python3 trainer/benches/pytorch_gpu.py --json peer.json

Needs Python 3.11 and torch. Generator and discriminator are those of pytorch_peer.py, the decoder is that of
shared/src/networks/autoencoder. Configurations come in the order of their value until the time is over; one that fails
stops no other. The file is written after each.
"""

import argparse
import contextlib
import json
import pathlib
import signal
import statistics
import time
import tomllib

import torch
import torch.nn as nn
import torch.nn.functional as F

import pytorch_peer
from pytorch_peer import Attention, Peer

PRESETS = pathlib.Path(__file__).resolve().parent.parent / "presets"
# The least that a configuration is begun with, in seconds.
ENOUGH = {"eager": 5, "compile": 20}


class CoderBlock(nn.Module):
    def __init__(self, inputs, outputs, norm_groups):
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(norm_groups, width, eps=1e-6) for width in (inputs, outputs))
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x):
        h = self.conv1(F.silu(self.norm1(x)))
        return self.shortcut(x) + self.conv2(F.silu(self.norm2(h)))


class Decoder(nn.Module):
    """Of the kinds VQ and KL, quantisation included."""

    def __init__(self, c):
        super().__init__()
        coder, patch, latent_channels = c["decoder"], c.get("patch", 1), c["latent_channels"]
        width, norm_groups, levels = coder["channels"], coder["groups"], len(coder["multipliers"])
        self.codebook = nn.Embedding(c["codes"], latent_channels) if c.get("codes") else None
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        channels = width * coder["multipliers"][-1]
        layers = [nn.Conv2d(latent_channels, channels, 3, padding=1), CoderBlock(channels, channels, norm_groups)]
        if coder.get("middle_attention", True):
            layers.append(Attention(channels, norm_groups, 1))
        layers.append(CoderBlock(channels, channels, norm_groups))
        for level in reversed(range(levels)):
            for _ in range(coder["blocks"] + 1):
                layers.append(CoderBlock(channels, width * coder["multipliers"][level], norm_groups))
                channels = width * coder["multipliers"][level]
                if c["image_size"] // patch >> level in coder.get("attention", []):
                    layers.append(Attention(channels, norm_groups, 1))
            if level:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1)]
        layers += [nn.GroupNorm(norm_groups, channels, eps=1e-6), nn.SiLU()]
        layers += [nn.Conv2d(channels, c["image_channels"] * patch**2, 3, padding=1), nn.PixelShuffle(patch)]
        self.layers = nn.Sequential(*layers)
        factor = patch << levels - 1
        linear = lambda: nn.Sequential(nn.Conv2d(latent_channels, c["image_channels"] * factor**2, 1), nn.PixelShuffle(factor))
        self.linear, self.tanh = linear() if c.get("linear_path") else None, c.get("tanh", False)

    def quantize(self, x):
        codes, vectors = self.codebook.weight, x.permute(0, 2, 3, 1)
        distances = torch.addmm(codes.square().sum(1), vectors.reshape(-1, x.shape[1]), codes.T, alpha=-2)
        return codes[distances.argmin(1)].reshape(vectors.shape).permute(0, 3, 1, 2)

    def forward(self, x):
        if self.codebook:
            x = self.quantize(x)
        image = self.layers(self.post_quant_conv(x))
        if self.linear:
            image = image + self.linear(x)
        return image.tanh() if self.tanh else image


class Sampling:
    """All denoising steps and the decoder, with noise that is drawn on the device."""

    def __init__(self, preset, batch, device, mode):
        self.peer = Peer(preset, batch, device, "tf32")
        c = preset["generator"]
        self.shape, self.z_dim = (batch, c["latent_channels"], c["latent_size"], c["latent_size"]), c["z_dim"]
        self.dtype = torch.bfloat16 if mode == "bf16" else torch.float32
        layout = torch.channels_last if mode == "bf16" else torch.contiguous_format
        place = lambda network: network.eval().to(device, self.dtype, memory_format=layout)
        self.generator, self.decoder = place(self.peer.g), place(Decoder(preset["autoencoder"]))
        self.layout, self.device = layout, device
        if mode == "compile":
            self.generator = torch.compile(self.generator, dynamic=False)
            self.decoder = torch.compile(self.decoder, dynamic=False)

    def place(self, x):
        return x.to(dtype=self.dtype, memory_format=self.layout)

    def __call__(self):
        with torch.inference_mode():
            x = torch.randn(self.shape, device=self.device)
            for t in reversed(range(self.peer.steps)):
                z = torch.randn(self.shape[0], self.z_dim, device=self.device, dtype=self.dtype)
                times = torch.full(self.shape[:1], t, device=self.device)
                x_0 = self.generator(self.place(x), times, z).float()
                x = self.peer.posterior(x_0, x, times)
            return self.decoder(self.place(x)).clamp(-1, 1)


class Training:
    """Steps of discriminator and generator, every so many of them with the penalty."""

    def __init__(self, preset, batch, device, mode):
        c = preset["generator"]
        self.peer, self.number = Peer(preset, batch, device, "bf16" if mode == "bf16" else "tf32"), 0
        self.real = torch.randn(batch, c["latent_channels"], c["latent_size"], c["latent_size"], device=device)
        if mode == "compile":  # The penalty's second derivatives exclude the discriminator.
            self.peer.g.compile(dynamic=False)

    def __call__(self):
        self.peer.step(self.real, self.number)
        self.number += 1


def clock(device):
    """Marks a moment; and the seconds between two marks, after `torch.cuda.synchronize`."""
    if device.type == "cpu":
        return time.perf_counter, lambda a, b: b - a

    def mark():
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    return mark, lambda a, b: a.elapsed_time(b) / 1000


def measure(call, device, seconds):
    """Seconds of the first call, and of each of some trials, at least three."""
    finish = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    started = time.perf_counter()
    call()
    finish()
    first = time.perf_counter() - started
    for _ in range(2):
        call()
    finish()
    mark, between = clock(device)
    trials, started = [], time.perf_counter()
    while len(trials) < 3 or time.perf_counter() - started < seconds:
        before = mark()
        call()
        after = mark()
        finish()
        trials.append(between(before, after))
    return first, trials


@contextlib.contextmanager
def limit(seconds):
    """Interrupts what takes longer, as compiling may."""

    def over(*_):
        raise TimeoutError("the time is over")

    signal.signal(signal.SIGALRM, over)
    signal.alarm(max(1, int(seconds)))
    try:
        yield
    finally:
        signal.alarm(0)


def choose_resampling(device):
    """Which of two equal forms of the FIR convolution is faster here."""
    x = torch.randn(64, 128, 32, 32, device=device)

    def seconds(depthwise):
        pytorch_peer.DEPTHWISE = depthwise
        return statistics.median(measure(lambda: pytorch_peer.fir(x, "up"), device, 0.2)[1])

    pytorch_peer.DEPTHWISE = seconds(True) < seconds(False)


def plan(options):
    """What, mode and preset of each configuration, the most valuable first."""
    kinds = [("sample", "eager"), ("train", "eager"), ("sample", "bf16"), ("sample", "compile"), ("train", "bf16")]
    return [(*kind, path) for kind in kinds + [("train", "compile")] for path in options.presets]


def run(what, mode, path, options, left):
    """One configuration; its figures, or what went wrong."""
    preset = tomllib.loads(path.read_text())
    batch = options.batch if what == "sample" else options.train_batch or preset["train_gan"]["batch"]
    result = {"what": what, "name": preset["name"], "mode": mode, "batch": batch}
    try:
        with limit(left):
            with options.device:  # where parameters are made
                subject = {"sample": Sampling, "train": Training}[what](preset, batch, options.device, mode)
            first, trials = measure(subject, options.device, options.seconds)
    except Exception as error:  # One that fails stops no other.
        return result | {"error": f"{type(error).__name__}: {error}"[:500]}
    mean = statistics.fmean(trials)
    result |= {"trials": len(trials), "first_call": first, "mean": mean, "median": statistics.median(trials)}
    return result | {"fastest": min(trials), "images_per_second": batch / mean}


def line(result):
    head = f"{result['what']:7} {result['name']:13} {result['mode']:8} batch {result['batch']:4}"
    if "error" in result:
        return f"{head}  {result['error'].splitlines()[0][:100]}"
    figures = f"{result['mean'] * 1000:9.2f} ms {result['images_per_second']:9.1f} images/s, {result['trials']} trials"
    return f"{head} {figures}, first call {result['first_call']:.1f} s"


def main():
    started = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = [PRESETS / f"{name}.toml" for name in ("cifar10", "faces256", "celebahq256", "church256")]
    parser.add_argument("--presets", nargs="+", type=pathlib.Path, default=default, help="files")
    parser.add_argument("--device", type=torch.device, default="cuda", help="cuda or cpu")
    parser.add_argument("--batch", type=int, default=100, help="of sampling")
    parser.add_argument("--train-batch", type=int, help="of training steps, instead of the preset's")
    parser.add_argument("--seconds", type=float, default=1.5, help="of the trials of each configuration")
    parser.add_argument("--budget", type=float, default=120, help="seconds for everything")
    parser.add_argument("--json", type=pathlib.Path, help="file that gets the figures")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    cuda = options.device.type == "cuda"
    choose_resampling(options.device)
    report = {"device": torch.cuda.get_device_name() if cuda else "cpu", "torch": torch.__version__, "results": []}
    report["fir"] = "depthwise" if pytorch_peer.DEPTHWISE else "by planes"
    print(f"PyTorch {report['torch']} on {report['device']}; FIR {report['fir']}", flush=True)
    for what, mode, path in plan(options):
        left = options.budget - (time.perf_counter() - started)
        if left < ENOUGH.get(mode, ENOUGH["eager"]):
            print(f"{what} {path.stem} {mode}: NOT RUN, the time is over", flush=True)
            continue
        report["results"].append(run(what, mode, path, options, left))
        print(line(report["results"][-1]), flush=True)
        if options.json:
            options.json.write_text(json.dumps(report, indent=2))
        if cuda:
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
