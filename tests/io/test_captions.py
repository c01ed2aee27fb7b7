"""Pictures travel alone: every one says in its pixels and in its texts what was checked, what was asked, and what its colors mean."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from torch import nn

import pellucid as pl
from pellucid.explanation import Evidence, Map, Provenance
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.io.caption import ALARM, Caption, caption_of, captioned, target_of
from pellucid.io.picture import top_of
from pellucid.report.pictures import layer
from pellucid.report.words import short_target

VERDICTS = ("supported", "questionable", "not supported", "void", None)


def explained(shape: tuple[int, ...] = (24, 30), method: str = "saliency") -> Map:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 2))
    return pl.explain(pl.Model(net, classes=("no", "yes")), Image(torch.rand(1, *shape), Grid(shape)), "yes", method=method)


def opened(path: Path) -> Pil.Image:
    with Pil.open(path) as picture:
        picture.load()
        return picture


def reds(picture: Pil.Image) -> int:
    return int((np.asarray(picture.convert("RGB")) == ALARM).all(-1).sum())


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("shape", [(24, 30), (6, 8, 7)])
def test_a_png_says_what_was_checked(verdict, shape, tmp_path):
    why = explained(shape).with_evidence(Evidence("quick" if verdict else "none", (), verdict, ()))
    found = opened(why.save(tmp_path / "m.png"))
    assert found.text["Verdict"] == (verdict or "not examined")
    assert (found.text["Target"], found.text["Method"]) == ("yes (logit)", why.provenance.method)
    assert found.text["Values"] == "how fast the score changes with what is there; the sign says which way"
    assert "not for diagnosis" in found.text["Warning"] and found.text["Title"] == "saliency of yes"
    assert (reds(found) > 50) == (verdict in ("not supported", "void"))
    bare = pl.io.overlay(why.values, why.grid, image=why.scan)
    below = np.asarray(found)[bare.height :]
    rows = np.flatnonzero((below > 100).any((1, 2)))  # lines of letters, apart
    assert int((np.diff(rows) > 1).sum()) >= 4


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"target": "logit(0)", "output": "regression"}, ("output 0", "")),
        ({"target": "logit(0)", "output": "regression", "classes": ("age",)}, ("age", "")),
        ({"target": "logit(1) - 0.5 * logit(0)", "output": "regression"}, ("output 1 - 0.5 * output 0", "")),
        ({"target": "logit(0)", "output": "undeclared"}, ("its number", "")),
        ({"target": "logit(1)", "output": "logits"}, ("class 1", "logit")),
        ({"target": "probability('it\\'s')", "output": "multi-label"}, ("it's", "probability")),
        ({"target": "logit('a') - logit('b')", "output": "logits"}, ("logit('a') - logit('b')", "logit")),
        ({"target": "logit('probability of rain')", "output": "logits"}, ("probability of rain", "logit")),
        ({"target": "region('lesion', mask=ab12:40, of='logit', how='mean')", "output": "logits"}, ("the region of lesion", "logit")),
        (
            {"target": "region('lesion', mask=given_ab12cd:40, of='logit', how='mean')"},
            ("lesion over the given region ab12 (40 samples)", "logit"),
        ),
        (
            {"target": "region('a', mask=given_ab12cd:1, of='logit', how='sum')"},
            ("a over the given region ab12 (1 sample), summed", "logit"),
        ),
        (
            {"target": "region('a', mask=given_ab:9, of='logit', how='mean') - region('b', mask=cd:9, of='logit', how='mean')"},
            ("a over the given region ab (9 samples) - the region of b", "logit"),
        ),
        ({"target": "region(2, of='probability', how='sum')", "classes": ("a", "b", "c")}, ("the region of c, summed", "probability")),
        ({"target": "region(0, of='logit', how='mean')", "output": "regression"}, ("the region of output 0", "")),
    ],
)
def test_a_target_has_one_name_and_only_a_unit_that_is_declared(said, told):
    assert target_of(said) == told
    assert short_target(Provenance("m", **{"site": "input", "image": "", **said})) == told


def test_two_given_masks_have_two_names_and_a_predicted_region_is_no_given_one():
    net = pl.Model(nn.Conv2d(1, 2, 1), classes=("organ", "lesion"))
    scan, mask = Image(torch.rand(1, 8, 8)), torch.zeros(8, 8)
    mask[:2, :3] = 1
    asked = (
        pl.region("lesion", mask),
        pl.region("lesion", mask.flip(0)),
        pl.region(int(net.module(scan.values[None]).mean((0, 2, 3)).argmax())),
    )
    names = [short_target(pl.explain(net, scan, t, method="saliency").provenance)[0] for t in asked]
    assert len(set(names)) == 3 and all(n.startswith("lesion over the given region ") and n.endswith("(6 samples)") for n in names[:2])
    assert names[2].startswith("the region of ")


@pytest.mark.parametrize("output", ["regression", None])
def test_no_picture_calls_a_measured_value_a_logit(output, tmp_path):
    torch.manual_seed(0)
    net = pl.Model(nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), output=output)
    why = pl.explain(net, torch.rand(1, 8, 8), method="input_x_gradient")
    text = opened(why.save(tmp_path / "m.png")).text
    assert text["Target"] == ("output 0" if output else "its number") and "logit" not in str({**text, "Note": ""})
    caption = caption_of({"provenance": why.provenance.as_dict(), "evidence": {}, "score": why.score}, zero=False)
    assert "logit" not in " ".join(caption.lines)


def test_pictures_that_differ_in_the_verdict_alone_differ(tmp_path):
    why = explained()
    made = [why.with_evidence(Evidence("quick", (), v, ())).save(tmp_path / f"{n}.png") for n, v in enumerate(VERDICTS)]
    assert len({opened(p).convert("RGB").tobytes() for p in made}) == len(VERDICTS)


def test_a_map_of_zeros_says_so(tmp_path):
    why = explained()
    zero = replace(why, values=why.values * 0)
    zeros, full = (opened(m.save(tmp_path / f"{n}.png")) for n, m in enumerate((zero, why)))
    assert zeros.height > full.height  # a line more
    found = pl.compare(
        pl.Model(nn.Sequential(nn.Flatten(), nn.Linear(64, 2))),
        torch.rand(1, 8, 8),
        ["saliency", "integrated_gradients(steps=2)"],
        target=1,
    )
    found = replace(found, maps=(replace(found.maps[0], values=found.maps[0].values * 0), found.maps[1]))
    assert "zero everywhere" in found._tiles()[0][1].note and "zero" not in found._tiles()[0][2].note


def test_a_figure_names_every_verdict(tmp_path):
    net = pl.Model(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), classes=("a", "b"))
    found = pl.compare(net, torch.rand(1, 8, 8), ["saliency", "integrated_gradients(steps=2)"], target="b")
    text = opened(found.figure(tmp_path / "none.png")).text
    assert text["Verdict"] == "not examined: all maps" and text["Target"] == "b"
    bad = found.maps[0].with_evidence(Evidence("quick", (), "not supported", ()))
    picture = opened(replace(found, maps=(bad, found.maps[1])).figure(tmp_path / "bad.png"))
    assert picture.text["Verdict"] == "not supported: saliency; not examined: integrated_gradients"
    assert reds(picture) > 50 and reds(opened(tmp_path / "none.png")) == 0


def test_long_words_are_wrapped_and_never_leave_the_picture():
    page = Pil.new("RGB", (300, 40))
    for text in ("word " * 60, "w" * 400, "ends\nin\x1b[2J"):
        made = np.asarray(captioned(page, Caption((text,))))
        assert made.shape[1] == 460
        assert not (made[:, -10:] > 100).any() and (made[40:] > 100).any()


def test_one_range_of_colors_for_every_picture_of_a_map():
    generator = np.random.default_rng(0)
    spot = np.zeros((40, 50), np.float32)
    spot[3:9, 4:8] = generator.normal(size=(6, 4))
    noise = (generator.normal(size=(40, 50)) * 1e-3).astype(np.float32)
    noise[5, 5] = 1.0
    for values in (spot, noise, np.zeros((4, 4), np.float32), np.full((4, 4), -2.0, np.float32)):
        assert top_of(values) == layer(values, 16).full
    assert top_of(spot) > 1 > np.quantile(np.abs(spot), 0.98)  # what is not marked does not make the marked full
    assert top_of(noise) == pytest.approx(0.05)
