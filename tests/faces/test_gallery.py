"""docs/gallery.md holds every registered method, once, with its picture and its own words; pictures stay small and keep rare colors."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image as Picture
from studies import gallery, gallery_nets
from studies.gallery_words import FAMILIES
from torch import nn

import pellucid as pl
from pellucid.io import Tile

KNOWN = {m.name: m for m in pl.methods()}


def test_every_method_belongs_to_one_family():
    assert sorted(name for _, methods in FAMILIES.values() for name in methods) == sorted(KNOWN)


def test_the_page_shows_every_method_and_says_what_the_method_says():
    page = gallery.PAGE.read_text()
    sections = re.findall(r"(?m)^### (\w+)$", page)
    assert sections == [name for _, methods in FAMILIES.values() for name in methods]
    assert re.findall(r"\n!\[(\w+) on a fundus, a chest and a brain phantom\]\(gallery/(\w+)\.png\)\n", page) == [(n, n) for n in sections]
    assert gallery.refreshed(page) == page, "run `python studies/gallery.py --words`"
    assert gallery.refreshed(page.replace("**Misleads when:** the network saturates", "**Misleads when:** never")) == page


def test_pictures_are_shown_and_small():
    files = sorted(gallery.HOME.glob("*.png"))
    assert sorted(re.findall(r"\(gallery/(\w+)\.png\)", gallery.PAGE.read_text())) == [f.stem for f in files]
    assert max(f.stat().st_size for f in files) <= gallery.LARGEST
    assert sum(f.stat().st_size for f in files) <= 2_500_000


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_every_picture_has_color_for_three_scans(name):
    """Orange or blue in each third of the page (a map of zeros, or one that was left out, has none)."""
    rgb = np.asarray(Picture.open(gallery.HOME / f"{name}.png").convert("RGB")).astype(int)
    strong = np.abs(rgb[..., 0] - rgb[..., 2]) > 40
    tall, wide = rgb.shape[0] - 118, rgb.shape[1] // 4  # without titles and color bars; fundus, chest, two quarters for the brain
    for column, height in ((0, tall), (1, tall), (2, tall * 180 // 260 - 4)):
        assert strong[66 : 62 + height, column * wide : (column + 1) * wide].any()


def test_few_colors_keep_the_rare_ones():
    values = torch.zeros(64, 64)
    values[10:12, 10:12], values[40:42, 40:42] = 1.0, -1.0
    image = pl.Image(torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)))
    before = gallery.sheet([Tile("a", image, values)], columns=1)
    after = gallery.fewer(before).convert("RGB")
    gap = np.abs(np.asarray(before, int) - np.asarray(after, int))
    assert after.getpixel((1, 1)) == gallery.PAPER
    assert gap.mean() < 4
    seen = np.asarray(after).astype(int)
    assert (seen[..., 0] - seen[..., 2]).max() > 90 > -90 > (seen[..., 0] - seen[..., 2]).min()


@pytest.mark.parametrize("made", [gallery_nets.Averaged, gallery_nets.Attending])
def test_new_heads_learn_what_features_hold_and_leave_the_features(made):
    g = torch.Generator().manual_seed(0)
    images, labels = torch.rand(48, 1, 8, 8, generator=g), torch.arange(48) % 2
    images[labels == 1, :, 2:4, 4:6] += 3.0
    shipped = nn.Module()
    shipped.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    with torch.no_grad():
        shipped.features[0].weight.copy_(torch.eye(4, 9).view(4, 1, 3, 3))
    kept = shipped.features[0].weight.clone()
    net, auc = gallery_nets.fitted(shipped, gallery_nets.Cohort(images, labels), made, epochs=12)
    assert auc > 0.9
    assert torch.equal(shipped.features[0].weight, kept)
    name = "cam" if made is gallery_nets.Averaged else "transformer_attribution"
    why = pl.explain(net, images[1], 1, method=name)
    assert why.values.abs().max() > 0
