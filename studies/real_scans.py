"""Real trained networks on real scans: does the relevance lie where the disease is? Writes docs/real_scans.md.

The scans and weights are third-party and not part of the project: PELLUCID_REALDATA names their folder (default ../shared/data).
Retinopathy classifier on IDRiD against lesion masks; W-Net on DRIVE, target: its vessels; MeshNet on a T1 volume, target: hippocampus.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch

import pellucid as pl
from pellucid.image import Image
from pellucid.intervals import average

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from studies.inside import area_share, enrichment, hit, mass_share  # noqa: E402
from studies.pages import put, stamp  # noqa: E402

DATA = Path(os.environ.get("PELLUCID_REALDATA", ROOT.parent / "shared" / "data"))
LESIONS = ("EX", "HE", "MA", "SE")


def loaders():
    spec = importlib.util.spec_from_file_location("loaders", DATA / "loaders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def lesion_mask(name, size=256):
    """Union of the lesion masks of an IDRiD photograph at the network's size."""
    found = [pl.read(f) for f in sorted((DATA / "fundus-idrid/masks").glob(f"{name}_*.png")) if f.stem.split("_")[-1] in LESIONS]
    if not found:
        return None
    masks = [(f.values.sum(0) > 0).float()[None] for f in found]
    whole = torch.stack([Image(m).on(Image(m).grid.resize((size, size))).values[0] > 0.25 for m in masks])
    return whole.any(0)


def photograph(name):
    """The photograph in [0, 1] at the network's size, resized as the network was trained (its loader), before normalization."""
    from PIL import Image as Picture

    picture = Picture.open(DATA / "fundus-idrid/images" / f"{name}.jpg").convert("RGB").resize((256, 256), Picture.BILINEAR)
    return torch.from_numpy(np.array(picture).transpose(2, 0, 1).copy()).float() / 255


def rows_of(found, methods):
    rows = []
    for name in methods:
        mass = [f["mass"] for f in found if f["method"] == name]
        rich = [f["enrichment"] for f in found if f["method"] == name]
        hits = [float(f["hit"]) for f in found if f["method"] == name]
        area = [f["area"] for f in found if f["method"] == name]
        m, e, h, a = map(average, (mass, rich, hits, area))
        between = [f"{i.value:.2f} ({i.low:.2f} to {i.high:.2f})" for i in (e, h)]
        rows.append(f"| `{name}` | {m.value:.3f} | {a.value:.3f} | {between[0]} | {between[1]} | {len(mass)} |")
    return rows


HEAD = "| method | mass in mask | area (chance) | enrichment (95 %) | hit rate (95 %) | cases |\n| --- | --- | --- | --- | --- | --- |"


def judge(name, why, mask):
    relevance = why.on(why.image.grid).relevance
    return {
        "method": name,
        "mass": mass_share(relevance, mask),
        "area": area_share(mask),
        "enrichment": enrichment(relevance, mask),
        "hit": hit(relevance, mask),
    }


def retinopathy(load):
    """IDRiD: all photographs with lesions that the network calls retinopathy."""
    net = pl.Model(load.drnet(), classes=("no retinopathy", "retinopathy"), normalize=pl.Normalize(0.35, 0.25), range=(0.0, 1.0))
    methods = [
        "saliency(absolute=True)",
        "input_x_gradient()",
        "smooth('saliency', statistic='square')",
        "integrated_gradients(baseline='black')",
        "integrated_gradients(baseline=blurred('16px'))",
        "blur_ig()",
        "grad_cam()",
        "hires_cam()",
        "layer_cam()",
        "occlusion(window='16px')",
        "rise(masks=400)",
    ]
    found, right = [], 0
    names = sorted(f.stem for f in (DATA / "fundus-idrid/images").glob("IDRiD_??.jpg"))
    for name in names:
        mask = lesion_mask(name)
        x = photograph(name)
        if mask is None or not mask.any():
            continue
        sure = pl.explain(net, x, None, method="saliency").probabilities[1] > 0.5
        right += sure
        if sure:
            found += [judge(m, pl.explain(net, x, "retinopathy", method=m), mask) for m in methods]
    title = f"Retinopathy classifier on IDRiD ({right} of {len(names)} photographs with lesions called retinopathy)"
    return title, "\n".join([HEAD, *rows_of(found, methods)])


def vessels(load):
    """DRIVE: what the W-Net uses for its own vessels, inside the field of view, against the annotated ones."""
    net = pl.Model(load.wnet(), classes=("vessel",), output="segmentation")
    methods = [
        "saliency(absolute=True)",
        "input_x_gradient()",
        "integrated_gradients(steps=8)",
        "blur_ig(steps=8)",
        "occlusion(window='32px')",
    ]
    found = []
    for i in (1, 2, 21, 22):
        x, truth, _ = load.drive(i)
        for m in methods:
            found.append(judge(m, pl.explain(net, x, pl.region("vessel"), method=m), torch.from_numpy(truth)))
    return "W-Net on DRIVE, target: mean logit of the predicted vessels, mask: the annotated vessels", "\n".join(
        [HEAD, *rows_of(found, methods)]
    )


def hippocampus(load):
    """MeshNet on the T1 volume, cropped around the hippocampi (each pass over the whole volume takes minutes on two cores)."""
    names = load.meshnet_labels()
    volume, aseg = load.t1()
    scan = pl.read(DATA / "brain-t1/t1.nii.gz")
    scan = scan.with_values(volume)
    truth = np.isin(aseg, (17, 53))
    low, high = np.argwhere(truth).min(0), np.argwhere(truth).max(0) + 1
    start = [max(0, int(a) - 20) for a in low]
    stop = [min(n, int(b) + 20) for b, n in zip(high, truth.shape, strict=True)]
    net = pl.Model(load.meshnet(), classes=tuple(names), output="segmentation", prepare=lambda image: image.crop(start, stop))
    mask = torch.from_numpy(truth[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))])
    methods = ["saliency(absolute=True)", "input_x_gradient()", "integrated_gradients(steps=6)"]
    found = []
    for m in methods:
        why = pl.explain(net, scan, pl.region("Hippocampus"), method=m)
        found.append(judge(m, why, mask))
        print(m, found[-1], why.provenance.seconds, flush=True)
    return "MeshNet on a T1 volume, target: mean logit of the predicted hippocampus, mask: FreeSurfer's", "\n".join(
        [HEAD, *rows_of(found, methods)]
    )


def main():
    if not DATA.exists():
        print(f"no real scans at {DATA}; nothing to measure")
        return
    load = loaders()
    parts = {"retinopathy": retinopathy, "vessels": vessels, "hippocampus": hippocampus}
    for name in sys.argv[1:] or parts:
        began = time.time()
        title, text = parts[name](load)
        print(title, text, sep="\n\n", flush=True)
        made = stamp("Made by `studies/real_scans.py`", time.time() - began, ", seed 0")
        put("real_scans.md", INTRO, title, f"{text}\n\n{made}")


INTRO = """# Real networks on real scans

Share of positive relevance inside the annotated masks, against the masks' share of the image (chance), and how often the map's peak lies
inside. A network need not use what an expert would mark: low numbers may be the network's, not the method's. Intervals: over cases.

Data: IDRiD (Porwal 2018, CC BY 4.0), DRIVE (Staal 2004), voxelmorph's T1 volume (Apache-2.0); weights: agaldran/lwnet and neuroneural/brainchop (MIT).
"""


if __name__ == "__main__":
    main()
