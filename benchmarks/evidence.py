"""What grading costs: ten maps at once against one by one and against Quantus, in passes and in seconds of the processor.

A perturbation that does not depend on the map is asked once for all maps, so that ten cost as many passes as one; a shuffled copy of the
network is made once for all methods, and methods that ask alike share its passes.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
warnings.simplefilter("ignore")
import tests.conftest  # noqa: F401, E402  (declares the operators that torchvision misses beside a CPU torch)
from studies.pages import put, stamp  # noqa: E402

import pellucid as pl  # noqa: E402
from pellucid.evidence.grade import open_panel  # noqa: E402
from pellucid.evidence.metric import read_metric  # noqa: E402
from pellucid.evidence.panel import Entry  # noqa: E402
from pellucid.image import Image  # noqa: E402
from pellucid.run import Run  # noqa: E402

MAPS = 10
METHODS = (
    "saliency", "input_x_gradient", "guided_backprop", "deconvnet", "grad_cam", "integrated_gradients(steps=8)",
    "integrated_gradients(steps=8, baseline='black')", "integrated_gradients(steps=8, baseline='white')",
    "integrated_gradients(steps=8, baseline='half_gray')", "integrated_gradients(steps=4)",
)  # fmt: skip
HEAD = (
    "metric",
    "passes at once",
    "one by one",
    "Quantus",
    "seconds at once",
    "one by one",
    "Quantus",
    "one by one / at once",
    "Quantus / at once",
)


class Passes:
    """Counts the images that a network sees, forward."""

    def __init__(self, net):
        self.seen = 0
        self.handle = net.register_forward_pre_hook(self.note)

    def note(self, _module, args):
        self.seen += len(args[0])


def counted(net, fn):
    """Images that the network saw, and seconds of processor time; two rounds, the faster."""
    found = []
    for _ in range(2):
        passes = Passes(net)
        began = time.process_time()
        fn()
        found.append((time.process_time() - began, passes.seen))
        passes.handle.remove()
    return min(found)[::-1]


def panel_of(net, x, maps):
    panel = open_panel(pl.Model(net), Image(x), ["saliency"], target=1, run=Run())
    panel.entries = {n: Entry(r) for n, r in maps.items()}
    return panel


def ours(net, x, maps, metric):
    return counted(net, lambda: read_metric(metric).measure(panel_of(net, x, maps)))


def alone(net, x, maps, metric):
    return counted(net, lambda: [read_metric(metric).measure(panel_of(net, x, {n: r})) for n, r in maps.items()])


def theirs(net, x, maps, make):
    """Quantus grades one batch of maps of one method; so ten calls, each with all images side by side that it likes."""
    image, label = x[None].numpy(), np.array([1])

    def go():
        for r in maps.values():
            make()(net, image, label, r[None, None].float().numpy(), channel_first=True, device="cpu", batch_size=64)

    return counted(net, go)


def unlike(a, b, batched):
    """In the place of Quantus' correlation for sensitivity-n, which runs over the images of a batch and raises for one image."""
    return np.zeros(len(a))


def perturbing(net, x, quick):
    """The three metrics whose perturbations no map decides."""
    import quantus

    n = 64 if quick else 256
    silent = {"disable_warnings": True, "display_progressbar": False, "normalise": False, "abs": False, "return_aggregate": False}
    side = x.shape[-1]
    size = side * side // 5
    chance = torch.Generator().manual_seed(0)
    maps = {f"map {k}": torch.randn(x.shape[1:], generator=chance, dtype=torch.float64) for k in range(MAPS)}
    rows = [
        (
            f"faithfulness_correlation(subsets={n}, parts='samples', fill='black')",
            lambda: quantus.FaithfulnessCorrelation(nr_runs=n, subset_size=size, perturb_baseline="black", **silent),
        ),
        (
            f"sensitivity_n(sizes=8, subsets={n // 8}, parts='samples', fill='black')",
            lambda: quantus.SensitivityN(
                features_in_step=side * side // 64, n_max_percentage=0.8, perturb_baseline="black", similarity_func=unlike, **silent
            ),
        ),
        (
            f"infidelity(draws={n}, edge='{side // 8}px', fill='black')",
            lambda: quantus.Infidelity(
                perturb_patch_sizes=[side // 8], n_perturb_samples=max(1, n // 64), perturb_baseline="black", **silent
            ),
        ),
    ]
    return [line(m, ours(net, x, maps, m), alone(net, x, maps, m), theirs(net, x, maps, make)) for m, make in rows]


def copies(net, x, quick):
    """Ten methods asked of shuffled copies of the network."""
    metric = f"model_randomization(stages={2 if quick else 5}, draws=1)"

    def at_once():
        pl.grade(net, x, list(METHODS), [metric], target=1, controls=())

    def one_by_one():
        for m in METHODS:
            pl.grade(net, x, [m], [metric], target=1, controls=())

    return [line(metric, counted(net, at_once), counted(net, one_by_one), None)]


def line(name, at_once, one_by_one, peer):
    passes = [at_once[0], one_by_one[0], peer[0] if peer else ""]
    seconds = [f"{s[1]:.2f}" if s else "" for s in (at_once, one_by_one, peer)]
    ratios = [f"{s[1] / at_once[1]:.1f}" if s else "" for s in (one_by_one, peer)]
    return [f"`{name}`", *map(str, passes), *seconds, *ratios]


def small():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    net = nn.Sequential(*layers, nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(512, 10))
    return net.eval(), torch.rand(3, 64, 64)


def resnet18():
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18(num_classes=10).eval(), torch.rand(3, 112, 112)


NETS = {"small": ("Three convolutions of 32 channels, 3 x 64 x 64", small), "resnet18": ("ResNet-18, 3 x 112 x 112", resnet18)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nets", nargs="*", choices=[*NETS, []])
    parser.add_argument("--quick", action="store_true", help="few perturbations: a look, not a measurement")
    parser.add_argument("--out", default="evidence_cost.md", help="a page of docs/, or a path")
    args = parser.parse_args()
    head = (
        "# What evidence costs\n\nTen maps of one image, graded at once, one by one, and by Quantus 0.6.0, whose metrics take one method at a time. "
        "Passes are images that the network sees going forward; seconds are of the processor, the faster of two rounds. Ours include the "
        "bootstrap intervals, which Quantus has not. `sensitivity_n` of Quantus takes cumulative tops of the map, and its `infidelity` lets "
        "patches accumulate: the cost compares, the numbers do not. For shuffled copies ten methods are asked; Quantus draws new weights by "
        "another rule and is left out. Made by `benchmarks/evidence.py`; random weights, float32."
    )
    for name in args.nets or list(NETS):
        title, make = NETS[name]
        net, x = make()
        began = time.perf_counter()
        rows = [*perturbing(net, x, args.quick), *copies(net, x, args.quick)]
        lines = ["| " + " | ".join(r) + " |" for r in (HEAD, ["---"] * len(HEAD), *rows)]
        text = "\n".join(lines)
        print(title, text, sep="\n")
        put(args.out, head, title, f"{text}\n\n{stamp('benchmarks/evidence.py', time.perf_counter() - began)}")


if __name__ == "__main__":
    main()
