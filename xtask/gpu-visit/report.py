"""One table of all figures that a visit to a machine with a GPU brought back.

    python3 xtask/gpu-visit/report.py results.tar.gz >figures.md

Takes the archive or its folder.
"""

import argparse
import json
import pathlib
import re
import tarfile
import tempfile

PEER_NUMBERS = {"eager": "TF32, eager", "compile": "TF32, torch.compile", "bf16": "bf16"}


def timing(path, report):
    """A row of `lddgan bench sample` or `bench train`, whose numbers are in the file's name."""
    numbers = re.search(r"-(tf32|bf16|f16|f32)(?:-\d+)?(--tune)?$", path.stem)
    runtime = "lddgan, CUDA" if report["device"].startswith("Cuda") else f"lddgan, WebGPU on {report['device']}"
    seconds = report["seconds"]
    kind = (numbers[1] + (", tuned" if numbers[2] else "")) if numbers else "f32"
    return report["what"], report["name"], seconds["batch"], runtime, kind, seconds["mean"], seconds["trials"]


def peer_rows(report):
    for result in report["results"]:
        if "mean" in result:
            numbers = PEER_NUMBERS[result["mode"]]
            if result["what"] == "sample" and result["mode"] == "bf16":
                numbers += ", channels last"
            runtime = f"PyTorch {report['torch']}"
            yield result["what"], result["name"], result["batch"], runtime, numbers, result["mean"], result["trials"]


def checks(path, report):
    stages = report["stages"]
    worst = max(stages, key=lambda stage: stage["max_error"])
    verdict = "passed" if report["passed"] else "FAILED"
    print(f"- {report['subject']['model']} by {report['executor']} on {report['device']}: {verdict}, largest error "
          f"{worst['max_error']:.1e} ({worst['name']})")


def kernels(path, report):
    ceilings = report["ceilings"]
    print(f"- {path.stem}: {report['seconds'] * 1000:.2f} ms of kernels a batch; ceilings "
          f"{ceilings['flops_per_second'] / 1e12:.1f} TFLOP/s in f32, {ceilings['bytes_per_second'] / 1e12:.2f} TB/s")


def report(folder):
    reports = [(path, json.loads(path.read_text())) for path in sorted(folder.rglob("*.json"))]
    rows = []
    for path, found in reports:
        if "stages" in found:
            checks(path, found)
        elif found.get("what") == "kernels":
            kernels(path, found)
        elif "results" in found:
            rows += peer_rows(found)
        elif found.get("what") in ("sample", "train"):
            rows.append(timing(path, found))
    print("\n| what | network | batch | runtime | numbers | ms | images/s | trials |\n|---|---|---:|---|---|---:|---:|---:|")
    for what, name, batch, runtime, numbers, mean, trials in sorted(rows):
        print(f"| {what} | {name} | {batch} | {runtime} | {numbers} | {mean * 1000:.2f} | {batch / mean:.1f} | {trials} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=pathlib.Path)
    results = parser.parse_args().results
    if results.is_dir():
        return report(results)
    with tempfile.TemporaryDirectory() as folder:
        tarfile.open(results).extractall(folder, filter="data")
        report(pathlib.Path(folder))


if __name__ == "__main__":
    main()
