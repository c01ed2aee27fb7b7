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

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
warnings.simplefilter("ignore")
import tests.conftest  # noqa: F401, E402  (declares the operators that torchvision misses beside a CPU torch)
from benchmarks import peers  # noqa: E402
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


ONE_SIZE = {"guided_ig", "expected_gradients", "xrai", "grad_cam", "grad_cam_plus_plus", "layer_cam", "eigen_cam"}  # peers without batches


def row(name, params, peer, make, net, x, units, rounds):
    """One line of a table: both times, their paired ratio, the distance to the floor, passes, chunk and peak memory."""
    site = params.get("site")
    bound = {k: v for k, v in params.items() if k != "site"}
    call = partial(pl.explain, net, x, 1, method=name, site=site, **bound)
    why = call()
    passes = (why.provenance.forward, why.provenance.backward)
    floor = (passes[0] - passes[1]) * units[0] + passes[1] * units[1]
    told = [f"{passes[0]} / {passes[1]}", str(why.provenance.chunk), f"{peak_mib(call):.0f}"]
    label = f"{name}({params['composite']})" if "composite" in params else name
    if make is None:
        ours = statistics.median(seconds(call) for _ in range(rounds))
        return [label, peer, f"{ours:.2f}", "", "", f"{ours / floor:.2f}", *told, ""]
    other, batch = (make(1), 1) if peer == "raw autograd" or name in ONE_SIZE else best(make)
    ours, theirs, ratio = paired(call, other, rounds)
    named = f"{peer} (batch {batch})" if batch > 1 else peer
    return [label, named, f"{ours:.3f}", f"{theirs:.3f}", f"{ratio:.2f}", f"{ours / floor:.2f}", *told, f"{peak_mib(other):.0f}"]


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


def volume_rows(rounds, side):
    """3D: MONAI's DenseNet121 against MONAI.visualize and Captum; windows of half the side, edge to edge, so that MONAI ends."""
    from captum.attr import IntegratedGradients, Occlusion
    from monai.networks.nets import DenseNet121
    from monai.visualize import GradCAM, OcclusionSensitivity

    torch.manual_seed(0)
    net, x = DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).eval(), torch.rand(1, side, side, side)
    units = best_pass(net, x, False), best_pass(net, x, True)
    ig, occlusion, window = IntegratedGradients(net), Occlusion(net), side // 2
    size, edge = (1, window, window, window), {"window": f"{window}px", "stride": f"{window}px"}
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
            edge,
            "Captum",
            lambda b: lambda: occlusion.attribute(x[None], size, size, target=1, perturbations_per_eval=b),
        ),
        (
            "occlusion",
            edge,
            "MONAI",
            lambda b: lambda: OcclusionSensitivity(net, mask_size=window, n_batch=b, overlap=0.0, verbose=False)(x[None]),
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


def _net(name):
    import torchvision.models

    torch.manual_seed(0)
    return getattr(torchvision.models, name)(weights=None).eval().requires_grad_(True), torch.rand(3, 224, 224)


def flat(quick):
    net, x = _net("resnet18")
    units = best_pass(net, x, False), best_pass(net, x, True)
    for title, cases in (
        ("Gradients along paths and over noise, ResNet-18 at 224 x 224", peers.paths),
        ("Perturbations, ResNet-18 at 224 x 224", peers.perturbations),
        ("Class activation maps, ResNet-18 at 224 x 224", peers.cams),
    ):
        yield title, table(HEAD, [row(*c, net, x, units, 3 if quick else 5) for c in cases(net, x, quick)])


def rules(quick):
    """One backward pass by rule, against one gradient by autograd: ours / peer is the number of gradient passes that it costs."""
    for name in ("resnet50",) if quick else ("resnet50", "vgg16", "densenet121"):
        net, x = _net(name)
        units = best_pass(net, x, False), best_pass(net, x, True)
        known = {m.name for m in pl.methods()}
        cases = [c for c in peers.rules(net, x, quick) if c[0] in known]
        yield f"Rules on the way back, {name} at 224 x 224", table(HEAD, [row(*c, net, x, units, 3 if quick else 9) for c in cases])


def memory(quick):
    net, x = _net("resnet18")
    yield "Memory does not grow with the work", table(["method", "steps, stride (px), masks", "peak MiB"], memory_rows(net, x))


def deep(quick):
    side = 32 if quick else 64
    yield f"DenseNet121 in 3D, {side} x {side} x {side}", table(HEAD, volume_rows(1 if quick else 3, side))


def large(quick):
    head = ["method", "forward / backward", "chunk", "seconds", "peak MiB"]
    yield "DenseNet121 in 3D, 128 x 128 x 128: memory", table(head, large_volume_rows())


PARTS = {"flat": flat, "rules": rules, "memory": memory, "deep": deep, "large": large}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []])
    parser.add_argument("--quick", action="store_true", help="few steps and rounds: a look, not a measurement")
    parser.add_argument("--out", default="benchmarks.md", help="a page of docs/, or a path")
    args = parser.parse_args()
    lines = (__doc__ or "").strip().splitlines()
    head = f"# Benchmarks\n\n{lines[2]}\n{lines[3]} `ours / peer` below 1 means that we are faster. Made by `make bench`; random weights, float32.\n"
    for name in args.parts or list(PARTS):
        began = time.perf_counter()
        for title, text in PARTS[name](args.quick):
            put(args.out, head, title, f"{text}\n\n{stamp('benchmarks/speed.py', time.perf_counter() - began)}")
            print(title, text, sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
