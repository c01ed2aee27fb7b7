"""SIC and AIC against the authors' code, in gray and in color; average drop against its formula and pytorch-grad-cam."""

import numpy as np
import pytest
import torch
from tests.evidence.test_faithfulness_correlation import g
from tests.evidence.test_faithfulness_road import Bright, panel_of_maps, square
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.evidence.faithfulness.reveal import SHARES, Revealed, interpolated
from pellucid.evidence.grade import open_panel
from pellucid.evidence.metric import read_metric
from pellucid.image import Image
from pellucid.run import Run


class Rounding(nn.Module):
    """The authors' code hands the network pictures of 256 levels; this one rounds for itself, so that both see the same. Values to 255."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        z = self.net(x.round() / 255)
        return torch.cat([-z, z], 1)


def picture(channels):
    """Bright lines, thin enough that a few samples do not tell of them."""
    where = torch.zeros(40, 44)
    where[8:30:4, 10:34] = 1
    x = 0.2 + 0.05 * torch.rand((channels, 40, 44), generator=g(3), dtype=torch.float64) + 0.7 * where
    net = Bright(where)
    net.bias.data.fill_(-0.65)
    return pl.Model(Rounding(net).float(), range=(0, 255)), (x * 255).round().float(), where


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["sic", "aic"])
def test_the_curve_is_that_of_the_authors_code(name, channels, monkeypatch):
    pic = pytest.importorskip("saliency.metrics.pic")
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)  # numpy 2 renamed it
    net, x, where = picture(channels)
    a = 0.3 * where.double() + torch.rand(where.shape, generator=g(4), dtype=torch.float64)
    panel = open_panel(net, Image(x), ["saliency"], target=1, score=pl.probability(1), run=Run(seed=2))
    panel.entries = panel_of_maps({"a": a})
    ours = read_metric(f"{name}(seeds=0.05, randoms=1)").measure(panel)["a"]

    def predict(images):
        batch = torch.as_tensor(np.asarray(images)).float()
        batch = batch[:, None] if batch.ndim == 3 else batch.permute(0, 3, 1, 2)
        with torch.no_grad():
            p = net.module(batch).softmax(1)[:, 1]
        return (p if name == "sic" else (p > 0.5).double()).numpy()

    whole = x.to(torch.uint8).numpy()
    theirs = pic.compute_pic_metric(
        img=whole[0] if channels == 1 else whole.transpose(1, 2, 0),
        saliency_map=a.numpy(),
        random_mask=Revealed.of(panel, 0.05).seeds,
        pred_func=predict,
        saliency_thresholds=list(SHARES),
        min_pred_value=0.0,
        num_data_points=4000,
    )
    assert ours.value == pytest.approx(theirs.auc, abs=1e-3)
    assert 0 < ours.value < 1
    assert ours.detail["start"] == pytest.approx(theirs.predictions[0], abs=1e-6)


def test_interpolation_keeps_what_is_known_and_is_exact_for_a_plane():
    rows, columns = np.meshgrid(np.arange(9.0), np.arange(7.0), indexing="ij")
    plane = np.stack([rows + 2 * columns, 3 - rows])
    known = np.random.default_rng(0).random((9, 7)) < 0.2
    assert np.allclose(interpolated(plane, known), plane)
    assert np.array_equal(interpolated(plane, np.ones((9, 7), dtype=bool)), plane)


def test_the_true_map_is_revealed_sooner_than_random_orders_and_volumes_are_refused():
    net, x, where = picture(1)
    panel = open_panel(net, Image(x), ["saliency"], target=1, run=Run(seed=2))
    noise = torch.rand(where.shape, generator=g(7), dtype=torch.float64)
    panel.entries = panel_of_maps({"true": where + 0.1 * noise, "turned": -where - 0.1 * noise})
    panel.spent.clear()
    found = read_metric("sic").measure(panel)
    assert (found["true"].status, found["turned"].status) == ("pass", "fail")
    assert found["true"].reference == max(found["true"].detail["random"])
    assert panel.spent["forward"] == 2 + (3 + 2) * len(SHARES)
    assert read_metric("aic").measure(panel)["true"].status == "pass"
    volume, v, _ = square((1, 8, 8, 8))
    panel = open_panel(pl.Model(volume), Image(v), ["saliency"], target=0, run=Run())
    with pytest.raises(BadParameter, match="dimensions"):
        read_metric("sic").measure(panel)


def test_nothing_to_reveal_is_void():
    net, x, where = picture(1)
    panel = open_panel(net, Image(x), ["saliency"], target=0, run=Run(seed=2))
    panel.entries = panel_of_maps({"a": where})
    assert [read_metric(n).measure(panel)["a"].status for n in ("sic", "aic")] == ["void", "void"]  # the empty image has more of class 0
    panel = open_panel(net, Image(x), ["saliency"], target=pl.logit(1) - pl.logit(0), run=Run(seed=2))
    assert read_metric("aic").measure(panel)["saliency"].status == "void"


@pytest.mark.parametrize("shape", [(3, 16, 14), (1, 8, 7, 9)])
def test_average_drop_is_its_formula_and_stands_alone(shape):
    net, x, where = square(shape)
    a = where + 0.2 * torch.rand(where.shape, generator=g(4)) - 0.1
    panel = open_panel(pl.Model(net), Image(x), ["saliency"], target=0, score=pl.probability(0), run=Run(seed=2))
    panel.entries = panel_of_maps({"a": a, "huge": 1e6 * a, "elsewhere": 1 - where, "ones": torch.ones_like(where) + 1e-3 * where})
    found = read_metric("average_drop").measure(panel)
    with torch.no_grad():
        whole, lit = (float(net(i[None]).sigmoid()) for i in (x, x * (a.clamp_min(0) / a.max())))
    assert found["a"].value == pytest.approx(max(0, whole - lit) / whole)
    assert found["huge"].value == pytest.approx(found["a"].value), "fault 8: no map is scaled by its neighbors' largest value"
    assert found["elsewhere"].value > found["a"].value
    assert (found["a"].status, found["elsewhere"].status) == ("pass", "fail")
    assert found["ones"].status == "inconclusive", "a map that marks everything passes nothing"
    peer = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    cam = (a.clamp_min(0) / a.max()).numpy()[None]
    drop = peer.DropInConfidence()(x[None], cam, [lambda z: z.sigmoid()[0].detach()], net)
    assert found["a"].value * whole == pytest.approx(float(drop[0]), abs=1e-6)


def test_a_drop_of_a_score_below_zero_is_void():
    net, x, where = square((1, 12, 12))
    panel = open_panel(pl.Model(net), Image(0.1 * x), ["saliency"], target=0, run=Run(seed=2))
    panel.entries = panel_of_maps({"a": where})
    found = read_metric("average_drop").measure(panel)["a"]
    assert found.status == "void"
    assert "probability" in found.text
