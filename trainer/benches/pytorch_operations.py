"""The operations of operations.rs in PyTorch, under the same names: milliseconds, median of 30 rounds.

    python3 trainer/benches/pytorch_operations.py --threads 1

Needs torch. Run it beside `RAYON_NUM_THREADS=1 cargo bench -p lddgan-trainer --bench
operations`, on a machine that is otherwise idle.
"""

import argparse
import statistics
import time

import torch
import torch.nn.functional as F

from pytorch_peer import fir

BATCH = 16
MAPS = [(128, 8), (64, 16)]


def trained(*shape):
    return torch.randn(shape, requires_grad=True)


def conv2d(channels):
    weight, bias = trained(channels, channels, 3, 3), trained(channels)
    return lambda x: F.conv2d(x, weight, bias, padding=1)


def group_norm(channels):
    weight, bias = trained(channels), trained(channels)
    return lambda x: F.silu(F.group_norm(x, channels // 4, weight, bias, eps=1e-6))


def fir_down(_channels):
    return lambda x: fir(x, "down")


def attention(_channels):
    def of(x):
        positions = x.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(positions, positions, positions).transpose(1, 2).reshape(x.shape)

    return of


def milliseconds(call, rounds=30):
    for _ in range(5):
        call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    torch.set_num_threads(parser.parse_args().threads)
    print(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    for operation in (conv2d, group_norm, fir_down, attention):
        for channels, size in MAPS:
            compute = operation(channels)
            x = torch.randn(BATCH, channels, size, size)
            with torch.no_grad():
                forward = milliseconds(lambda: compute(x))
            x.requires_grad_()
            both = milliseconds(lambda: compute(x).sum().backward())
            print(f"{operation.__name__} {channels} {size}x{size}: {forward:.3f}; with gradient {both:.3f}")


if __name__ == "__main__":
    main()
