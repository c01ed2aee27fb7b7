"""Every method against its peer and against the floor, in one run: `make bench` writes docs/benchmarks.md.

The floor is what no way of batching beats: declared passes times the cost of one pass in the best batch, measured here. Peers run at their
best batch size of those tried. Each row alternates ours and the peer's, and gives the median of paired ratios.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
warnings.simplefilter("ignore")
import tests.conftest  # noqa: F401, E402  (declares the operators that torchvision misses beside a CPU torch)
from studies.pages import put, stamp  # noqa: E402

import pellucid as pl  # noqa: E402

BATCHES = (1, 2, 4, 8, 16)


def seconds(fn):
    gc.collect()
    began = time.perf_counter()
    fn()
    return time.perf_counter() - began


def paired(ours, peer, rounds):
    """Median seconds of each, and the median of the paired ratios, in alternating order; one round to warm up."""
    ours(), peer()
    pairs = []
    for r in range(rounds):
        first, second = (ours, peer) if r % 2 == 0 else (peer, ours)
        a, b = seconds(first), seconds(second)
        pairs.append((a, b) if r % 2 == 0 else (b, a))
    return (*(statistics.median(c) for c in zip(*pairs, strict=True)), statistics.median(a / b for a, b in pairs))


def best_pass(net, x, backward):
    """Seconds per sample of the best batch tried: the floor's unit."""
    found = []
    for n in BATCHES:
        batch = x[None].expand(n, *x.shape).clone()

        def go(batch=batch):
            with torch.set_grad_enabled(backward):
                leaf = batch.clone().requires_grad_(backward)
                out = net(leaf)[:, 1].sum()
                if backward:
                    torch.autograd.grad(out, leaf)

        go()
        found.append(min(seconds(go) for _ in range(2)) / n)
    return min(found)


def best(make):
    """The peer at the batch size that serves it best."""
    tried = []
    for n in BATCHES:
        call = make(n)
        call()
        tried.append((seconds(call), n))
    fastest = min(tried)[1]
    return make(fastest), fastest


def peak_mib(fn):
    """Highest resident memory during a call above that before it (Linux); what the allocator keeps from before is given back first."""

    def status(key):
        line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(key))
        return int(line.split()[1]) / 1024

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    fn()
    return status("VmHWM") - before


def peers_2d(net, x, quick):
    """Rows: method, its parameters, name of the peer, and how the peer is called with a batch size."""
    from captum.attr import IntegratedGradients, LayerGradCam, NoiseTunnel, Occlusion, Saliency
    from saliency.core import INPUT_OUTPUT_GRADIENTS, BlurIG

    steps, n, window = (8, 5, 64) if quick else (32, 25, 32)
    image = x.permute(1, 2, 0).double().numpy()

    def pair_call(images, call_model_args=None, expected_keys=None):
        leaf = torch.as_tensor(np.asarray(images)).float().permute(0, 3, 1, 2).requires_grad_()
        (g,) = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)
        return {INPUT_OUTPUT_GRADIENTS: g.permute(0, 2, 3, 1).numpy()}

    def raw(_n):
        def go():
            leaf = x[None].clone().requires_grad_()
            torch.autograd.grad(net(leaf)[0, 1], leaf)

        return go

    ig, noise, occlusion = IntegratedGradients(net), NoiseTunnel(Saliency(net)), Occlusion(net)
    smooth = {"nt_type": "smoothgrad", "nt_samples": n, "stdevs": 0.15, "target": 1, "abs": False}
    shape, stride = (3, window, window), (3, window // 2, window // 2)
    return [
        ("saliency", {}, "raw autograd", raw),
        (
            "integrated_gradients",
            {"steps": steps},
            "Captum",
            lambda b: lambda: ig.attribute(x[None], target=1, n_steps=steps, internal_batch_size=b),
        ),
        ("smoothgrad", {"n": n}, "Captum", lambda b: lambda: noise.attribute(x[None], nt_samples_batch_size=b, **smooth)),
        (
            "blur_ig",
            {"steps": steps, "max_sigma": "20px"},
            "PAIR saliency",
            lambda b: lambda: BlurIG().GetMask(image, pair_call, max_sigma=20, steps=steps, batch_size=b),
        ),
        ("grad_cam", {"site": "layer4"}, "Captum", lambda b: lambda: LayerGradCam(net, net.layer4).attribute(x[None], target=1)),
        (
            "occlusion",
            {"window": f"{window}px", "stride": f"{window // 2}px"},
            "Captum",
            lambda b: lambda: occlusion.attribute(x[None], shape, stride, target=1, perturbations_per_eval=b),
        ),
    ]


def row(name, params, peer, make, net, x, units, rounds):
    site = params.get("site")
    bound = {k: v for k, v in params.items() if k != "site"}
    call = lambda: pl.explain(net, x, 1, method=name, site=site, **bound)  # noqa: E731
    why = call()
    passes = (why.provenance.forward, why.provenance.backward)
    floor = (passes[0] - passes[1]) * units[0] + passes[1] * units[1]
    if make is None:
        ours = statistics.median(seconds(call) for _ in range(rounds))
        return [
            name,
            peer,
            f"{ours:.2f}",
            "",
            "",
            f"{ours / floor:.2f}",
            f"{passes[0]} / {passes[1]}",
            str(why.provenance.chunk),
            f"{peak_mib(call):.0f}",
            "",
        ]
    other, batch = best(make) if peer != "raw autograd" and "cam" not in name else (make(1), 1)
    ours, theirs, ratio = paired(call, other, rounds)
    memory = (peak_mib(call), peak_mib(other))
    return [
        name,
        f"{peer} (batch {batch})" if batch > 1 else peer,
        f"{ours:.3f}",
        f"{theirs:.3f}",
        f"{ratio:.2f}",
        f"{ours / floor:.2f}",
        f"{passes[0]} / {passes[1]}",
        str(why.provenance.chunk),
        f"{memory[0]:.0f}",
        f"{memory[1]:.0f}",
    ]


HEAD = [
    "method",
    "peer (its best batch)",
    "ours s",
    "peer s",
    "ours / peer",
    "ours / floor",
    "forward / backward",
    "chunk",
    "our MiB",
    "peer MiB",
]


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in rows])


def memory_rows(net, x):
    """Peak memory against the number of steps, windows and masks."""
    rows = []
    for name, many in (
        ("integrated_gradients", [{"steps": s} for s in (16, 64, 256)]),
        ("occlusion", [{"window": "32px", "stride": f"{s}px"} for s in (32, 16, 8)]),
        ("rise", [{"masks": m} for m in (64, 256, 1024)]),
    ):
        peaks = []
        for p in many:
            call = partial(pl.explain, net, x, 1, method=name, **p)
            call()
            peaks.append(f"{peak_mib(call):.0f}")
        rows.append([name, ", ".join(str(next(reversed(p.values()))) for p in many), ", ".join(peaks)])
    return rows


def networks(quick):
    from torchvision.models import resnet18, resnet50

    torch.manual_seed(0)
    yield "ResNet-18, 224 x 224", resnet18(weights=None).eval(), torch.rand(3, 224, 224), quick
    yield "ResNet-50, 224 x 224 (saliency and Grad-CAM only)", resnet50(weights=None).eval(), torch.rand(3, 224, 224), None


def volume_rows(rounds):
    """3D: MONAI's DenseNet121 at 64^3 against MONAI.visualize and Captum."""
    from captum.attr import IntegratedGradients
    from monai.networks.nets import DenseNet121
    from monai.visualize import GradCAM, OcclusionSensitivity

    torch.manual_seed(0)
    net, x = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval(), torch.rand(1, 64, 64, 64)
    units = best_pass(net, x, False), best_pass(net, x, True)
    ig = IntegratedGradients(net)
    cases = [
        (
            "integrated_gradients",
            {"steps": 8},
            "Captum",
            lambda b: lambda: ig.attribute(x[None], target=1, n_steps=8, internal_batch_size=b),
        ),
        ("grad_cam", {"site": "class_layers.relu"}, "MONAI", lambda b: lambda: GradCAM(net, "class_layers.relu")(x[None], class_idx=1)),
        (
            "occlusion",
            {"window": "16px", "stride": "16px"},
            "MONAI",
            lambda b: lambda: OcclusionSensitivity(net, mask_size=16, n_batch=b, overlap=0.0, verbose=False)(x[None]),
        ),
    ]
    return [row(*c, net, x, units, rounds) for c in cases]


def large_volume_rows():
    """DenseNet121 at 128^3, the plan on its own: what it takes of the machine's memory. Passes are few, chunks are planned as for many."""
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    net, x = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval(), torch.rand(1, 128, 128, 128)
    rows = []
    for name, params in (
        ("saliency", {}),
        ("integrated_gradients", {"steps": 6}),
        ("smoothgrad", {"n": 6}),
        ("grad_cam", {"site": "features.norm5"}),
        ("occlusion", {"window": "64px", "stride": "32px"}),
        ("rise", {"masks": 24}),
    ):
        bound = {k: v for k, v in params.items() if k != "site"}
        found = []
        call = lambda: found.append(pl.explain(net, x, 1, method=name, site=params.get("site"), **bound))  # noqa: E731, B023
        took = seconds(lambda: found.append(peak_mib(call)))  # noqa: B023
        why, peak = found
        rows.append(
            [name, f"{why.provenance.forward} / {why.provenance.backward}", str(why.provenance.chunk), f"{took:.0f}", f"{peak:.0f}"]
        )
    return rows


def flat(quick):
    rounds = 3 if quick else 7
    for title, net, x, few in networks(quick):
        units = best_pass(net, x, False), best_pass(net, x, True)
        net = net.requires_grad_(True)
        cases = [c for c in peers_2d(net, x, bool(few)) if few is not None or c[0] in ("saliency", "grad_cam")]
        rows = [row(*c, net, x, units, 25 if c[0] == "saliency" else rounds) for c in cases]
        if few is not None:
            rows.append(row("rise", {"masks": 64 if few else 256}, "none", None, net, x, units, rounds))
        yield title, table(HEAD, rows)
        if few is not None:
            yield "Memory does not grow with the work", table(["method", "steps, stride (px), masks", "peak MiB"], memory_rows(net, x))


def deep(quick):
    yield "DenseNet121 in 3D, 64 x 64 x 64", table(HEAD, volume_rows(1 if quick else 3))


def large(quick):
    head = ["method", "forward / backward", "chunk", "seconds", "peak MiB"]
    yield "DenseNet121 in 3D, 128 x 128 x 128: memory", table(head, large_volume_rows())


PARTS = {"flat": flat, "deep": deep, "large": large}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=[*PARTS, []])
    parser.add_argument("--quick", action="store_true", help="few steps and rounds: a look, not a measurement")
    parser.add_argument("--out", default="benchmarks.md", help="a page of docs/, or a path")
    args = parser.parse_args()
    lines = (__doc__ or "").strip().splitlines()
    head = f"# Benchmarks\n\n{lines[2]}\n{lines[3]} `ours / peer` below 1 means that we are faster. Made by `make bench`; random weights, float32.\n"
    for name in args.parts:
        began = time.perf_counter()
        for title, text in PARTS[name](args.quick):
            put(args.out, head, title, f"{text}\n\n{stamp('benchmarks/speed.py', time.perf_counter() - began)}")
            print(title, text, sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
