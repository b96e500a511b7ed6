"""What one snapshot costs: `make bench`.

The unit is the network's own forward pass on the same sample, timed in the same process at its best batch size. Every snapshot runs in a
process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

import pruneviz as pv
from pruneviz.datasets import balanced_sample, load_dataset
from pruneviz.networks import NETWORKS, build_network


def seconds(run: Callable[[], object], times: int) -> float:
    """Median time of a call, after one call to warm up."""
    run()
    spent = []
    for _ in range(times):
        began = time.perf_counter()
        run()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


@torch.no_grad()
def best_pass(model: torch.nn.Module, images: torch.Tensor, times: int) -> float:
    """The forward pass over all images at the fastest of several batch sizes, in seconds."""
    model.eval()
    return min(seconds(lambda size=size: [model(part) for part in images.split(size)], times) for size in (16, 32, 64, 128))


def measure_one(network: str, width: float, per_class: int, times: int) -> dict[str, float]:
    """Passes and peak memory of one network's snapshot, on real digits."""
    torch.manual_seed(0)
    images, labels = balanced_sample(load_dataset("digits"), per_class)
    model = build_network(network, num_classes=10, width=width)
    one_pass = best_pass(model, images, times)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gradient = seconds(lambda: pv.measure(model, (images, labels), temperatures=(1.0,), columns=["theta_g"]), times)
    whole = seconds(lambda: pv.measure(model, (images, labels)), times)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"pass_s": one_pass, "gradient_passes": gradient / one_pass, "snapshot_passes": whole / one_pass, "peak_growth_mb": grown / 1024}


def main() -> None:
    """Measure every network, or with --one a single one as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--per-class", type=int, default=6, help="images a class in the sample")
    parser.add_argument("--times", type=int, default=3, help="timed calls, of which the median counts")
    parser.add_argument("--one", choices=list(NETWORKS), help="this network alone, as JSON")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure_one(given.one, given.width, given.per_class, given.times)))
        return
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}; {10 * given.per_class} images of digits")
    print(f"{'network':14} {'pass':>8} {'gradient':>10} {'snapshot':>10} {'peak memory over the pass':>26}")
    for network in NETWORKS:
        options = ["--one", network, "--width", str(given.width), "--per-class", str(given.per_class), "--times", str(given.times)]
        answer = subprocess.run([sys.executable, __file__, *options], check=True, capture_output=True, text=True).stdout
        row = json.loads(answer)
        counts = f"{row['gradient_passes']:>7.1f} x p {row['snapshot_passes']:>7.1f} x p"
        print(f"{network:14} {row['pass_s']:>6.2f} s {counts} {row['peak_growth_mb']:>23.0f} MB")


if __name__ == "__main__":
    main()
