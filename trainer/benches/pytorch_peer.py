"""The training step of a preset in PyTorch, beside `lddgan bench train`, in one run.

    python3 trainer/benches/pytorch_peer.py --lddgan target/release/lddgan --preset trainer/presets/faces64.toml

Needs Python 3.11 and torch. The networks are those of shared/src/networks, written the way PyTorch programs are; their
parameter counts are compared with `lddgan info`. Both programs take turns, so that a busy machine slows both.
"""

import argparse
import json
import math
import re
import subprocess
import tempfile
import time
import tomllib

import torch
import torch.nn as nn
import torch.nn.functional as F

RESCALE = 1 / math.sqrt(2)
KERNEL = torch.outer(torch.tensor([1.0, 3.0, 3.0, 1.0]), torch.tensor([1.0, 3.0, 3.0, 1.0])) / 64
# Whether FIR filters are convolutions in as many groups as there are channels, or of each channel as an image of its own.
DEPTHWISE = False


def fir(x, mode):
    n, c, h, w = x.shape
    images, channels = (n, c) if DEPTHWISE else (n * c, 1)
    planes, kernel = x.reshape(images, channels, h, w), KERNEL.to(x).expand(channels, 1, 4, 4)
    if mode == "up":
        spread = F.pad(planes.reshape(images, channels, h, 1, w, 1), (0, 1, 0, 0, 0, 1))
        planes, kernel = F.pad(spread.reshape(images, channels, 2 * h, 2 * w), (2, 1, 2, 1)), 4 * kernel
    stride, padding = {"up": (1, 0), "down": (2, 1), "smooth": (1, 2)}[mode]
    y = F.conv2d(planes, kernel, stride=stride, padding=padding, groups=channels)
    return y.reshape(n, c, y.shape[2], y.shape[3])


def sinusoids(t, width):
    half = width // 2
    angles = t.float()[:, None] * torch.exp(-torch.arange(half, device=t.device) * math.log(10000) / (half - 1))
    return torch.cat([angles.sin(), angles.cos()], 1)


def groups(channels):
    return max(1, min(channels // 4, 32))


class AdaptiveNorm(nn.Module):
    def __init__(self, channels, z_width):
        super().__init__()
        self.groups, self.style = groups(channels), nn.Linear(z_width, 2 * channels)

    def forward(self, x, z):
        scale, shift = self.style(z)[:, :, None, None].chunk(2, 1)
        return F.silu(F.group_norm(x, self.groups, eps=1e-6) * (1 + scale) + shift)


class Residual(nn.Module):
    def __init__(self, inputs, outputs, time_width, z_width, mode=None):
        super().__init__()
        self.mode = mode
        self.norm1, self.norm2 = AdaptiveNorm(inputs, z_width), AdaptiveNorm(outputs, z_width)
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(time_width, outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if mode or inputs != outputs else nn.Identity()

    def forward(self, x, time, z):
        h = self.norm1(x, z)
        if self.mode:
            h, x = fir(h, self.mode), fir(x, self.mode)
        h = self.conv1(h) + self.time(time)[:, :, None, None]
        return RESCALE * (self.shortcut(x) + self.conv2(self.norm2(h, z)))


class Attention(nn.Module):
    def __init__(self, channels, norm_groups=None, rescale=RESCALE):
        super().__init__()
        self.rescale, self.norm = rescale, nn.GroupNorm(norm_groups or groups(channels), channels, eps=1e-6)
        self.query, self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x):
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2) for conv in (self.query, self.key, self.value))
        weights = (q.transpose(1, 2) @ k * q.shape[1] ** -0.5).softmax(-1)
        return self.rescale * (x + self.out((v @ weights.transpose(1, 2)).reshape(x.shape)))


class Generator(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.c, width, z_width = c, c["channels"], c["z_embedding"]
        residual = lambda i, o, mode=None: Residual(i, o, 4 * width, z_width, mode)
        self.mapping = nn.ModuleList(nn.Linear(z_width if i else c["z_dim"], z_width) for i in range(c["z_layers"] + 1))
        self.time = nn.ModuleList([nn.Linear(width, 4 * width), nn.Linear(4 * width, 4 * width)])
        self.conv_in = nn.Conv2d(c["latent_channels"], width, 3, padding=1)
        channels, pyramid, skips, self.down = width, c["latent_channels"], [width], nn.ModuleList()
        for level, multiplier in enumerate(c["multipliers"]):
            attend = c["latent_size"] >> level in c["attention"]
            parts = nn.ModuleDict({"blocks": nn.ModuleList(), "attention": nn.ModuleList()})
            for _ in range(c["blocks"]):
                parts["blocks"].append(residual(channels, width * multiplier))
                channels = width * multiplier
                parts["attention"].append(Attention(channels) if attend else nn.Identity())
                skips.append(channels)
            if level + 1 < len(c["multipliers"]):
                parts["shrink"] = residual(channels, channels, "down")
                parts["pyramid"] = nn.Conv2d(pyramid, channels, 3, stride=2)
                pyramid = channels
                skips.append(channels)
            self.down.append(parts)
        self.middle = nn.ModuleList([residual(channels, channels), Attention(channels), residual(channels, channels)])
        self.up = nn.ModuleList()
        for level, multiplier in reversed(list(enumerate(c["multipliers"]))):
            attend = c["latent_size"] >> level in c["attention"]
            parts = nn.ModuleDict({"blocks": nn.ModuleList()})
            for _ in range(c["blocks"] + 1):
                parts["blocks"].append(residual(channels + skips.pop(), width * multiplier))
                channels = width * multiplier
            parts["attention"] = Attention(channels) if attend else nn.Identity()
            if level:
                parts["grow"] = residual(channels, channels, "up")
            self.up.append(parts)
        self.norm_out = nn.GroupNorm(groups(channels), channels, eps=1e-6)
        self.conv_out = nn.Conv2d(channels, c["latent_channels"], 3, padding=1)

    def forward(self, x, t, z):
        z = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for layer in self.mapping:
            z = F.silu(layer(z))
        time = F.silu(self.time[1](F.silu(self.time[0](sinusoids(t, self.c["channels"]).to(x.dtype)))))
        h, pyramid = self.conv_in(x), x
        skips = [h]
        for parts in self.down:
            for block, attention in zip(parts["blocks"], parts["attention"]):
                h = attention(block(h, time, z))
                skips.append(h)
            if "shrink" in parts:
                h = pyramid = RESCALE * (parts["pyramid"](fir(pyramid, "smooth")) + parts["shrink"](h, time, z))
                skips.append(h)
        h = self.middle[2](self.middle[1](self.middle[0](h, time, z)), time, z)
        for parts in self.up:
            for block in parts["blocks"]:
                h = block(torch.cat([h, skips.pop()], 1), time, z)
            h = parts["attention"](h)
            if "grow" in parts:
                h = parts["grow"](h, time, z)
        h = self.conv_out(F.silu(self.norm_out(h)))
        return h.tanh() if self.c.get("tanh", True) else h


class DiscriminatorBlock(nn.Module):
    def __init__(self, inputs, outputs, time_width, half):
        super().__init__()
        self.half = half
        self.conv1, self.conv2 = nn.Conv2d(inputs, outputs, 3, padding=1), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time, self.shortcut = nn.Linear(time_width, outputs), nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x, time):
        h = F.leaky_relu(self.conv1(F.leaky_relu(x, 0.2)) + self.time(time)[:, :, None, None], 0.2)
        if self.half:
            h, x = fir(h, "down"), fir(x, "down")
        return RESCALE * (self.conv2(h) + self.shortcut(x))


class Discriminator(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.width, time_width = c["time_embedding"], c["time_embedding"]
        large = c["kind"] == "large"
        widths = [c["channels"] * w for w in ([4, 8, 8, 8, 8, 8] if large else [2, 4, 8, 8])][: c["layers"]]
        channels = 2 * c["channels"]
        self.time = nn.ModuleList(nn.Linear(time_width, time_width) for _ in range(2))
        self.start, self.blocks = nn.Conv2d(2 * c["latent_channels"], channels, 1), nn.ModuleList()
        for i, outputs in enumerate(widths):
            self.blocks.append(DiscriminatorBlock(channels, outputs, time_width, large or i > 0))
            channels = outputs
        self.final, self.end = nn.Conv2d(channels + 1, channels, 3, padding=1), nn.Linear(channels, 1)

    def forward(self, x_t, t, x_tp1):
        time = sinusoids(t, self.width)
        for layer in self.time:
            time = F.leaky_relu(layer(time), 0.2)
        h = self.start(torch.cat([x_t, x_tp1], 1))
        for block in self.blocks:
            h = block(h, time)
        n, _, rows, columns = h.shape
        group = min(n, 4)
        stddev = (h.reshape(group, n // group, -1).var(0, unbiased=False) + 1e-8).sqrt().mean(1)
        h = torch.cat([h, stddev.repeat(group)[:, None, None, None].expand(n, 1, rows, columns)], 1)
        return self.end(F.leaky_relu(self.final(h), 0.2).sum((2, 3)))


class Peer:
    """Networks, optimisers and schedule of a preset."""

    def __init__(self, preset, batch, device, precision):
        self.device, self.batch, self.train, self.precision = device, batch, preset["train_gan"], precision
        self.g, self.d = Generator(preset["generator"]).to(device), Discriminator(preset["discriminator"]).to(device)
        adam = lambda network, rate: torch.optim.Adam(network.parameters(), rate, betas=(0.5, 0.9))
        self.g_adam = adam(self.g, self.train["generator_learning_rate"])
        self.d_adam = adam(self.d, self.train["discriminator_learning_rate"])
        self.ema = [p.detach().clone() for p in self.g.parameters()]
        self.z_dim = preset["generator"]["z_dim"]
        diffusion = preset.get("diffusion", {})
        self.steps = diffusion.get("steps", 4)
        low, high = diffusion.get("beta_min", 0.1), diffusion.get("beta_max", 20.0)
        times = torch.arange(self.steps + 1, dtype=torch.float64) / self.steps * (1 - 1e-3) + 1e-3
        bars = torch.exp(-times.square() * (high - low) / 2 - times * low)
        betas = torch.cat([torch.tensor([1e-8], dtype=torch.float64), 1 - bars[1:] / bars[:-1]]).float().to(device)
        alphas = 1 - betas
        self.a, self.sigma, cumulative = alphas.sqrt(), betas.sqrt(), alphas.cumprod(0)
        self.a_cum, self.sigma_cum = cumulative.sqrt(), (1 - cumulative).sqrt()
        betas, alphas, bars = betas[1:], alphas[1:], alphas[1:].cumprod(0)
        before = torch.cat([torch.ones(1, device=device), bars[:-1]])
        self.mean0, self.mean1 = betas * before.sqrt() / (1 - bars), (1 - before) * alphas.sqrt() / (1 - bars)
        self.deviation = (betas * (1 - before) / (1 - bars)).clamp(min=1e-20).sqrt() * (torch.arange(self.steps, device=device) > 0)

    def pair(self, real, t):
        at = lambda table, i: table[i][:, None, None, None]
        x_t = at(self.a_cum, t) * real + at(self.sigma_cum, t) * torch.randn_like(real)
        return x_t, at(self.a, t + 1) * x_t + at(self.sigma, t + 1) * torch.randn_like(real)

    def posterior(self, x_0, x_tp1, t):
        at = lambda table: table[t][:, None, None, None]
        return at(self.mean0) * x_0 + at(self.mean1) * x_tp1 + at(self.deviation) * torch.randn_like(x_0)

    def generate(self, x_tp1, t):
        with self.cast():
            x_0 = self.g(x_tp1, t, torch.randn(self.batch, self.z_dim, device=self.device))
        x_0 = x_0.float()
        return x_0, self.posterior(x_0, x_tp1, t)

    def cast(self):
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")

    def judge(self, x_t, t, x_tp1):
        with self.cast():
            return self.d(x_t, t, x_tp1).float()

    def step(self, real, number):
        t = torch.randint(0, self.steps, (self.batch,), device=self.device)
        x_t, x_tp1 = self.pair(real, t)
        x_t.requires_grad_(True)
        logits = self.judge(x_t, t, x_tp1)
        loss = F.softplus(-logits).mean()
        if number % self.train["lazy_reg"] == 0:
            (gradient,) = torch.autograd.grad(logits.sum(), x_t, create_graph=True)
            loss = loss + self.train["r1_gamma"] / 2 * gradient.square().flatten(1).sum(1).mean()
        with torch.no_grad():
            _, fake = self.generate(x_tp1, t)
        loss = loss + F.softplus(self.judge(fake, t, x_tp1)).mean()
        self.d_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.d_adam.step()

        t = torch.randint(0, self.steps, (self.batch,), device=self.device)
        _, x_tp1 = self.pair(real, t)
        self.d.requires_grad_(False)
        x_0, fake = self.generate(x_tp1, t)
        loss = F.softplus(-self.judge(fake, t, x_tp1)).mean() + 0.5 * (x_0 - real).abs().mean()
        self.g_adam.zero_grad(set_to_none=True)
        loss.backward()
        self.g_adam.step()
        self.d.requires_grad_(True)
        with torch.no_grad():
            torch._foreach_lerp_(self.ema, list(self.g.parameters()), 1 - self.train["ema_decay"])


def check_sizes(lddgan, preset_path, peer):
    """The networks must be the same ones: their parameters are counted by both programs."""
    said = subprocess.run([lddgan, "info", "--preset", preset_path], capture_output=True, text=True, check=True).stdout
    for name, network in (("generator", peer.g), ("discriminator", peer.d)):
        ours = int(re.search(rf"^{name}: (\d+) parameters", said, re.M).group(1))
        theirs = sum(p.numel() for p in network.parameters())
        assert ours == theirs, f"{name}: {ours} parameters here, {theirs} in PyTorch"


def time_peer(peer, real, seconds, number):
    images, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        peer.step(real, number)
        number, images = number + 1, images + peer.batch
    if peer.device.type == "cuda":
        torch.cuda.synchronize()
    return images / (time.perf_counter() - started), number


def time_lddgan(options):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [options.lddgan, "bench", "train", "--preset", options.preset, "--batch", str(options.batch)]
        command += ["--backend", "cpu" if options.device == "cpu" else "cuda", "--precision", options.precision]
        command += ["--seconds", str(options.seconds), "--json", report.name]
        subprocess.run(command, check=True, capture_output=True)
        return json.load(open(report.name))["seconds"]["images_per_second"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lddgan", default="target/release/lddgan", help="the program")
    parser.add_argument("--preset", default="trainer/presets/faces64.toml", help="file of the preset")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="f32", choices=["f32", "tf32", "bf16"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=20, help="of each turn")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    with open(options.preset, "rb") as file:
        preset = tomllib.load(file)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    device = torch.device(options.device)
    peer = Peer(preset, options.batch, device, options.precision)
    check_sizes(options.lddgan, options.preset, peer)
    size, channels = preset["generator"]["latent_size"], preset["generator"]["latent_channels"]
    real = torch.randn(options.batch, channels, size, size, device=device)
    _, number = time_peer(peer, real, 2, 0)
    ours, theirs = [], []
    for turn in range(options.turns):
        ours.append(time_lddgan(options))
        rate, number = time_peer(peer, real, options.seconds, number)
        theirs.append(rate)
        print(f"turn {turn}: lddgan {ours[-1]:.1f} images/s, PyTorch {theirs[-1]:.1f} images/s", flush=True)
    median = lambda values: sorted(values)[len(values) // 2]
    ours, theirs = median(ours), median(theirs)
    print(f"{preset['name']}, batch {options.batch}, {options.precision} on {options.device}, median of {options.turns}:")
    print(f"lddgan {ours:.1f} images/s, PyTorch {torch.__version__} {theirs:.1f} images/s, ratio {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
