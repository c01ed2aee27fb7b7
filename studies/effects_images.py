"""The figures of docs/interventions.md: doses set in fundus photographs, and four MR sequences of which one is scaled by label. One minute of CPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import pellucid as pl
from pellucid import Grid, Image, phantoms
from pellucid.effects import DoseResponse, dose_response, read_intervention, sequence_importance, sequence_maps
from pellucid.effects.scoring import laid
from pellucid.loading import load_model

FIGURES = Path(__file__).parent.parent / "docs" / "figures"
INK, SOFT, LINE, OWN = "#18232e", "#566473", "#dde3e9", "#0d5f78"
SEQUENCES = ("T1", "T1c", "T2", "FLAIR")
ODDS = pl.logit("DME") - pl.logit("no DME")
SHOWN = (  # axis, which mask, doses
    ("lesion_contrast", "edema", (0.0, 0.02, 0.04, 0.06, 0.08, 0.1, 0.12)),
    ("lesion_size", "edema", (0.0, 0.6, 1.2, 1.8, 2.4, 3.0)),
    ("ring_intensity(inner=0, outer=1.8, how='scale')", "fovea", (0.28, 0.34, 0.4, 0.46, 0.52, 0.58)),
    ("blur", None, (0.0, 0.05, 0.1, 0.2, 0.3, 0.4)),
)


def doses() -> list[DoseResponse]:
    """Four axes on eyes with edema; those without say that no lesion is within the data."""
    net, eyes = load_model("phantom:fundus_dme"), list(phantoms.cases("fundus_dme", 24, seed=5))
    sick = [e for e in eyes if e.labels["dme"]]
    found = []
    for axis, mask, values in SHOWN:
        given = eyes if mask == "edema" else sick
        masks = None if mask is None else [e.masks[mask] for e in given]
        found.append(dose_response(net, [e.image for e in given], axis, ODDS, values=values, masks=masks))
    return found


def dose_figure(found: list[DoseResponse]) -> Figure:
    """For each axis a strip of one eye over the doses, and the curves of all."""
    eye = next(e for e in phantoms.cases("fundus_dme", 6, seed=5) if e.labels["dme"])
    figure = Figure(figsize=(13.5, 2.45 * len(found)), layout="constrained")
    for part, (axis, mask, values), curve in zip(figure.subfigures(len(found), 1), SHOWN, found, strict=True):
        left, right = part.subfigures(1, 2, width_ratios=(2.1, 1))
        at = left.subplots(1, 6)
        for place, dose in zip(at, np.linspace(values[0], values[-1], 6), strict=True):
            marked = None if mask is None else laid(eye.masks[mask], eye.image, eye.image)
            changed = read_intervention(axis).apply(eye.image, float(dose), marked).image.values
            place.imshow(changed.clamp(0, 1).permute(1, 2, 0))
            place.set_title(f"{dose:.2g} {curve.axis.unit}", fontsize=9, color=INK)
            place.set_axis_off()
        left.suptitle(curve.axis.title, fontsize=11, color=INK, x=0.01, ha="left", fontweight="bold")
        curves(right.subplots(), curve)
    return figure


def curves(at: Any, found: DoseResponse) -> None:
    """Cases, mean, band; gray where most cases are unlike any real one."""
    x = found.axis.values
    for side in ("top", "right"):
        at.spines[side].set_visible(False)
    for k, gone in enumerate(~found.there):
        if gone:
            low = (x[k - 1] + x[k]) / 2 if k else x[0]
            at.axvspan(low, (x[k] + x[k + 1]) / 2 if k + 1 < len(x) else x[-1], color="#e9edf0", linewidth=0)
    at.plot(x, found.individual.T, color=OWN, linewidth=0.6, alpha=0.5)
    at.fill_between(x, found.low, found.high, color=OWN, alpha=0.15, linewidth=0)
    at.plot(x, found.values, color=OWN, linewidth=2.4)
    at.axhline(0, color=SOFT, linewidth=0.7, linestyle=":")
    at.set_xlim(x[0], x[-1])
    at.set_ylim(-6, 10)
    at.tick_params(colors=SOFT, labelsize=8)
    at.set_ylabel("DME over no DME (logit)", fontsize=8, color=SOFT)
    at.set_title(f"{found.verdict}; doses missed by {found.missed:.0%} at most", fontsize=9, color=INK, loc="left")


def slices(heads: range, bias: float) -> tuple[list[Image], list[int], list[int], list[Tensor]]:
    """Four slices of each head in four sequences, with a tumor: its rim takes up contrast (label 1) or does not. ``bias``: FLAIR is brighter then."""
    images, labels, patients, rims = [], [], [], []
    for h in heads:
        head = phantoms.brain(h, size=40)
        chance = torch.Generator().manual_seed(h)
        fluid, brain = head.masks["ventricles"], ~head.masks["background"]
        for k in range(4):
            z, y = 18 + 2 * k, (h + k) % 2
            t1 = head.image.values[0][:, :, z]
            water = (fluid[:, :, z].float() + 0.6 * (0.75 - t1).clamp(0, 0.5)) * brain[:, :, z]
            x = torch.stack([t1, t1.clone(), 0.25 * t1 + water, (0.75 * t1 + 0.2 * water) * (1 - 0.7 * fluid[:, :, z].float())])
            free = (brain[:, :, z] & ~fluid[:, :, z]).nonzero()
            c = free[int(torch.randint(len(free), (1,), generator=chance))]
            at = torch.meshgrid(torch.arange(40), torch.arange(40), indexing="ij")
            away = ((at[0] - c[0]) ** 2 + (at[1] - c[1]) ** 2).float().sqrt()
            size = 2.5 + 2 * float(torch.rand(1, generator=chance))
            core, swollen, rim = away < size, (away < size + 3).float() * brain[:, :, z], ((away - size).abs() < 1.0) & brain[:, :, z]
            x[0] -= 0.25 * core * x[0]
            x[1] = x[0] + (0.35 * rim if y else 0)
            x[2:] += 0.3 * swollen
            x[3] *= 1 + bias * y
            x = (x + 0.02 * torch.randn(x.shape, generator=chance) * brain[:, :, z]).clamp_min(0)
            images.append(Image(x, Grid.spaced((40, 40), (4.8, 4.8)), channels=SEQUENCES))
            labels.append(y)
            patients.append(h)
            rims.append(rim)
    return images, labels, patients, rims


class Net(nn.Module):
    """Three convolutions, mean and maximum of each map, one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(4, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        z = self.features(x).flatten(2)
        return self.head(torch.cat([z.mean(2), z.amax(2)], 1))


def trained(images: list[Image], labels: list[int]) -> pl.Model:
    """A network on these slices."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Net()
        x, y = torch.stack([i.values for i in images]), torch.tensor(labels)
        mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3))
        x = (x - mean.view(1, 4, 1, 1)) / std.view(1, 4, 1, 1)
        optimizer = torch.optim.AdamW(net.parameters(), 0.004, weight_decay=0.1)
        for _ in range(400):
            rows = torch.randperm(len(x))[:32]
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
    return pl.Model(net.eval(), classes=("no uptake", "uptake"), normalize=pl.Normalize(tuple(mean.tolist()), tuple(std.tolist())))


def map_figure(net: pl.Model, images: list[Image], labels: list[int], rims: list[Tensor]) -> Figure:
    """Each sequence of one slice, with where it matters."""
    k = next(i for i, y in enumerate(labels) if y)
    why = pl.explain(net, images[k], target=pl.logit("uptake") - pl.logit("no uptake"), method="integrated_gradients", steps=32)
    maps = sequence_maps(why, smooth=3.0)
    most = max(float(m.values.max()) for m in maps.values())
    figure = Figure(figsize=(11, 5.6), layout="constrained")
    for column, (name, m) in enumerate(maps.items()):
        above, below = figure.add_subplot(2, 4, 1 + column), figure.add_subplot(2, 4, 5 + column)
        above.imshow(images[k].values[column].T, cmap="gray", origin="lower")
        below.imshow(m.values[0].T, cmap="magma", vmin=0, vmax=most, origin="lower")
        below.contour(rims[k].T.float(), levels=[0.5], colors="white", linewidths=0.8)
        share = m.total / sum(n.total for n in maps.values())
        above.set_title(name, fontsize=11, color=INK)
        below.set_title(f"{share:.0%} of the attribution", fontsize=10, color=SOFT)
        for at in (above, below):
            at.set_axis_off()
    return figure


def main() -> None:
    """Figures, and what they say; ``doses`` or ``sequences`` as an argument: those alone."""
    if "sequences" not in sys.argv:
        found = doses()
        for f in found:
            print(*f.sentences()[:1], f"missed {f.missed:.3f}")
        dose_figure(found).savefig(FIGURES / "effects_dose.webp", dpi=85, pil_kwargs={"quality": 88})
    for name, bias in () if "doses" in sys.argv else (("none", 0.0), ("FLAIR", 0.12)):
        images, labels, _, _ = slices(range(36), bias)
        net = trained(images, labels)
        given, own, whose, rims = slices(range(100, 116), bias)
        told = sequence_importance(net, given, pl.logit("uptake") - pl.logit("no uptake"), labels=own, patients=whose)
        print(name, *told.sentences(), told.disagreement(), told.level_table(), sep="\n")
        print(told.table(), told.lost, sep="\n")
        if bias:
            told.figure(FIGURES / "effects_sequences.webp")
        else:
            map_figure(net, given, own, rims).savefig(FIGURES / "effects_sequence_maps.webp", dpi=85, pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
