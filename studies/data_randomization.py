"""What do networks show that have memorized permuted labels? python studies/data_randomization.py -> docs/data_randomization.md

A small network learns the five stages of retinopathy on phantoms: on their true labels, again with another seed, and on permuted ones, until it
knows nearly all of them. Maps of held-out eyes are compared (Adebayo et al. 2018, section 4).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

import pellucid as pl
from pellucid.evidence.sanity import data_randomization
from pellucid.phantoms import cases
from pellucid.phantoms.nets import CLASSES, build
from pellucid.table import Table

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from studies.figures import keep, over, photo, plots  # noqa: E402
from studies.pages import put, stamp  # noqa: E402

NAME, SIDE, COUNT, EPOCHS, EXPLAINED = "fundus_dr", 64, 200, 240, 16
LEARNING, HELD_OUT = 31, 32  # seeds of phantoms
METHODS = (
    "saliency", "smooth('saliency', n=16)", "input_x_gradient", "integrated_gradients(steps=32)", "deeplift", "guided_backprop",
    "guided_grad_cam", "grad_cam",
)  # fmt: skip
WORDS = ("saliency", "SmoothGrad", "grad x input", "integrated\ngradients", "DeepLIFT", "guided\nbackprop", "guided\nGrad-CAM", "Grad-CAM")
HEAD = """# Data randomization: maps of a network that memorized permuted labels

A network that is trained on permuted labels must memorize its images: nothing in them explains the labels. A method whose maps stay the same shows the
image and not what was learned (Adebayo et al. 2018, section 4). Made by `studies/data_randomization.py` with `pellucid.evidence.sanity.data_randomization`.
"""


def drawn(count, seed):
    """Phantoms with as many eyes of each stage as can be."""
    found = {k: [] for k in range(len(CLASSES[NAME]))}
    for case in cases(NAME, 20 * count, seed, size=SIDE):
        if len(found[case.labels["stage"]]) < count // len(found):
            found[case.labels["stage"]].append(case)
        if all(len(f) == count // len(found) for f in found.values()):
            break
    return [c for group in zip(*found.values(), strict=True) for c in group]


def trainer(x, told):
    """``train(labels, seed)``: the shipped architecture, from another start, until it knows 99 % of its labels."""

    def train(labels, seed):
        net, y, began = build(NAME, seed=100 + seed), torch.tensor(labels), time.perf_counter()
        optimizer = torch.optim.AdamW(net.parameters(), 3e-3, weight_decay=1e-4)
        g = torch.Generator().manual_seed(seed)
        for epoch in range(EPOCHS):
            net.train()
            for group in optimizer.param_groups:
                group["lr"] = 3e-3 if epoch < EPOCHS // 2 else 1e-3
            for rows in torch.randperm(len(x), generator=g).split(25):
                optimizer.zero_grad()
                F.cross_entropy(net(x[rows]), y[rows]).backward()
                optimizer.step()
            if epoch % 10 == 9:
                right = known(net, x, y)
                print(epoch + 1, round(right, 3), f"{time.perf_counter() - began:.0f} s", flush=True)
                if right >= 0.99:
                    break
        told.append((net.eval(), epoch + 1))
        return pl.Model(net, classes=CLASSES[NAME])

    return train


@torch.no_grad()
def known(net, x, y):
    """Share of labels that the network gives."""
    net.eval()
    return float((net(x).argmax(1) == y).float().mean())


def figure(path, eyes, models):
    """Maps of the three networks for two eyes."""
    plt = plots()
    names = ("true labels", "true labels,\nother seed", "permuted\nlabels")
    fig, axes = plt.subplots(3 * len(eyes), 1 + len(METHODS), figsize=(9.4, 3.35 * len(eyes)), layout="constrained")
    for e, eye in enumerate(eyes):
        for r, (model, word) in enumerate(zip(models, names, strict=True)):
            row = axes[3 * e + r]
            photo(row[0], eye.image.values.movedim(0, -1).clamp(0, 1).numpy())
            row[0].set_ylabel(word, fontsize=7.5)
            for k, m in enumerate(METHODS):
                why = pl.explain(model, eye.image, eye.labels["stage"], method=m)
                photo(row[k + 1], over(why.image, why.on(why.image.grid).values, light=0.35), WORDS[k] if e == r == 0 else "")
    keep(fig, path)


def main(page, folder):
    """Train, measure, draw, write."""
    began = time.perf_counter()
    torch.set_num_threads(1)
    learn, held = drawn(COUNT, LEARNING), drawn(40, HELD_OUT)
    x, xv = (torch.stack([c.image.values for c in some]) for some in (learn, held))
    labels, yv = [c.labels["stage"] for c in learn], torch.tensor([c.labels["stage"] for c in held])
    eyes = [c for c in held if c.labels["stage"] > 0][:EXPLAINED]
    told = []
    found = data_randomization(
        trainer(x, told),
        [c.image for c in learn],
        labels,
        METHODS,
        explained=[c.image for c in eyes],
        targets=[c.labels["stage"] for c in eyes],
    )
    nets = [net for net, _ in told]
    one = next(iter(found.values()))
    rows = []
    for name, m in found.items():
        wrong, again, lost = m.detail["permuted"], m.detail["retrained"], m.detail["difference_of_magnitudes"]
        rows.append((name, f"{m.value:.2f} [{m.low:.2f}, {m.high:.2f}]", f"{m.reference:.2f}", f"{wrong['absolute']:.2f}", f"{again['absolute']:.2f}",
                     "{:+.2f} [{:+.2f}, {:+.2f}]".format(*lost), f"{wrong['ssim']:.2f}", f"{again['ssim']:.2f}", m.status))  # fmt: skip
    columns = ("method", "permuted", "retrained", "magnitudes, permuted", "magnitudes, retrained", "magnitudes, lost", "SSIM, permuted", "SSIM, retrained", "finding")  # fmt: skip
    figure(folder / "data_randomization.png", eyes[2:3], [pl.Model(n, classes=CLASSES[NAME]) for n in nets])
    shares = ", ".join(f"{k} {v:.3f}" for k, v in one.detail["accuracy"].items())
    outside = ", ".join(f"{k} {known(n, xv, yv):.2f}" for k, n in zip(one.detail["accuracy"], nets, strict=True))
    text = f"""{COUNT} phantoms of {SIDE} x {SIDE} pixels, equally many of each stage; permuting gave {one.detail["moved"]} of them another label.
Accuracy on the training images: {shares} (after {", ".join(str(n) for _, n in told)} epochs); on {len(held)} held-out ones: {outside}
(chance: 0.20). So the third network knows its images and nothing else.

Likeness of the maps of {len(eyes)} held-out eyes with retinopathy to those of the first network, for the same stage: rank correlation, its magnitude,
with the interval of the mean over eyes; "retrained" is the second network with true labels: so much changes by another start alone.
A method passes if its maps are less alike with permuted labels than that. Where the signs of single pixels have nothing in common even between networks
with true labels, rank correlation has nothing to lose, and the finding is inconclusive; magnitudes (with the interval of their loss) and SSIM stand beside it.

{Table(columns, tuple(rows))}

![Maps of three networks for two eyes](figures/data_randomization.png)

{stamp("`studies/data_randomization.py`", time.perf_counter() - began, f", {time.process_time():.0f} s of CPU", of="evidence")}"""
    put(page, HEAD, "Five stages of retinopathy", text)
    print(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--page", default="data_randomization.md")
    parser.add_argument("--figures", type=Path, default=ROOT / "docs" / "figures")
    args = parser.parse_args()
    main(args.page, args.figures)
