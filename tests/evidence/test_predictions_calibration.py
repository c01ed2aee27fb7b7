"""Calibration and temperature: the formulas written slowly, closed forms, scikit-learn, and what a cheap imitation must not get past."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter, Unsupported
from pellucid.evidence.predictions.binned import Bins, expected


def stated(n: int, k: int = 3, seed: int = 0, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits (n, k) times ``sharp`` and labels drawn from the softmax of the logits themselves: calibrated where sharp is 1."""
    g = np.random.default_rng(seed)
    z = 2 * g.normal(size=(n, k))
    p = torch.from_numpy(z).softmax(1).numpy()
    y = (p.cumsum(1) < g.random((n, 1))).sum(1)
    return sharp * z, y


def soft(z):
    return torch.from_numpy(np.asarray(z)).softmax(1).numpy()


def slow_ece(conf, right, bins):
    """Guo et al. 2017, eq. 3, bin by bin and case by case."""
    total = 0.0
    for m in range(bins):
        inside = [i for i, c in enumerate(conf) if m / bins < c <= (m + 1) / bins or (m == 0 and c == 0)]
        if inside:
            accuracy, confidence = (sum(float(v[i]) for i in inside) / len(inside) for v in (right, conf))
            total += len(inside) / len(conf) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("bins", [10, 15])
def test_error_is_the_papers_formula(k, bins):
    z, y = stated(300, k, sharp=2.0)
    p = soft(z)
    found = pl.calibration(p, y, bins=bins, debias=False)
    assert found.ece.value == pytest.approx(slow_ece(p.max(1), p.argmax(1) == y, bins), rel=1e-12)
    assert found.ece.value == found.ece.detail["plug_in"]
    assert sum(r["cases"] for r in found.bins if r["class"] == "predicted") == 300


def test_equal_mass_holds_equal_counts_and_keeps_ties_together():
    p = np.linspace(0.05, 0.95, 60)
    assert Bins.of(p, p, 6, "mass").count.tolist() == [10] * 6
    tied = Bins.of(np.repeat([0.2, 0.7], [50, 10]), np.zeros(60), 6, "mass")
    assert tied.count.tolist() == [50, 10] and tied.stated == pytest.approx([0.2, 0.7])
    assert Bins.of(np.full(9, 0.4), np.zeros(9), 5, "mass").count.tolist() == [9]


def test_curve_agrees_with_scikit_learn():
    curve = pytest.importorskip("sklearn.calibration").calibration_curve
    g = np.random.default_rng(1)
    p = g.random(400)
    y = (g.random(400) < p**2).astype(float)
    for ours, theirs in (("width", "uniform"), ("mass", "quantile")):
        found = pl.calibration(p, y, bins=8, binning=ours).bins
        seen, mean = curve(y, p, n_bins=8, strategy=theirs)
        assert np.asarray(found["stated"]) == pytest.approx(mean, abs=1e-12 if ours == "width" else 5e-3)
        assert np.asarray(found["seen"]) == pytest.approx(seen, abs=1e-12 if ours == "width" else 2e-2)


def test_scores_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    z, y = stated(200)
    found = pl.calibration(soft(z), y)
    assert found.nll.value == pytest.approx(metrics.log_loss(y, soft(z)), rel=1e-10)
    assert found.brier.value == pytest.approx(((soft(z) - np.eye(3)[y]) ** 2).sum(1).mean(), rel=1e-12)
    one = pl.calibration(soft(z)[:, 0], (y == 0).astype(float))
    assert one.brier.value == pytest.approx(metrics.brier_score_loss(y == 0, soft(z)[:, 0]), rel=1e-12)
    assert one.ece.detail["of"] == ["0"], "of one label the probability itself is judged, not the winner's"


def test_debiased_error_of_small_bins_is_the_sampled_one():
    """Kumar et al. 2019 draw each bin's seen share anew around the one seen; its variance is estimated without bias (Bessel)."""
    p = np.repeat([0.15, 0.35, 0.55, 0.75, 0.95], [3, 4, 5, 6, 3])
    true = np.array([1, 0, 0, *[1, 1, 0, 0], *[1, 1, 0, 0, 0], *[1, 1, 1, 1, 1, 0], *[1, 1, 0]], dtype=float)
    b = Bins.of(p, true, 5, "width")
    assert b.count.tolist() == [3, 4, 5, 6, 3]
    g, plug, taken = np.random.default_rng(2), 0.0, 0.0
    for at in np.unique(p):
        outcomes = true[p == at]
        share, gap = len(outcomes) / len(p), abs(outcomes.mean() - at)
        drawn = g.normal(outcomes.mean(), math.sqrt(outcomes.var(ddof=1) / len(outcomes)), 400_000)
        plug += share * gap
        taken += share * (np.abs(drawn - at).mean() - gap)
    assert taken > 0.01, "or the test says nothing"
    assert plug - taken > abs(float((true - p).mean())) + 0.01, "nor where another bound decides"
    assert b.error == pytest.approx(plug)
    assert b.debiased == pytest.approx(plug - taken, abs=1e-3)


def test_debiased_error_has_less_bias_than_the_plug_in():
    """True error in closed form: stated p, true p - 0.1 for all; and 0 where it is calibrated."""
    g = np.random.default_rng(3)
    for shift in (0.0, 0.1):
        plug, fair, squared = [], [], []
        for _ in range(60):
            p = g.uniform(0.2, 0.9, 150)
            b = Bins.of(p, (g.random(150) < p - shift).astype(float), 15, "width")
            plug.append(b.error), fair.append(b.debiased), squared.append(b.squared)
        assert abs(np.mean(fair) - shift) < 0.7 * abs(np.mean(plug) - shift)
        assert np.mean(plug) > shift + 0.01
        assert np.mean(squared) == pytest.approx(shift**2, abs=0.003)


def test_folded_normal_is_what_kumar_draws():
    g = np.random.default_rng(0)
    p = g.random(200)
    b = Bins.of(p, (g.random(200) < p).astype(float), 10, "width")
    sd = np.sqrt(b.seen * (1 - b.seen) / (b.count - 1))
    far = np.abs(g.normal(b.seen - b.stated, sd, (40_000, len(sd)))).mean(0)
    gap = np.abs(b.seen - b.stated)
    assert b.debiased == pytest.approx(max(0.0, float((b.share * (2 * gap - far)).sum())), abs=2e-3)


def test_interval_covers_and_reference_is_reached_by_the_calibrated():
    inside, p_low = 0, 0
    for seed in range(14):
        g = np.random.default_rng(seed)
        p = g.uniform(0.3, 0.9, 250)
        found = pl.calibration(p, (g.random(250) < p - 0.15).astype(float), bins=10).ece
        inside += found.low <= 0.15 <= found.high
        null = expected(p, 10, "width", True, 60, 1)
        fair = Bins.of(p, (g.random(250) < p).astype(float), 10, "width").debiased
        p_low += (1 + (null >= fair).sum()) / 61 <= 0.05
    assert inside >= 11, "95 % intervals"
    assert p_low <= 3, "5 % of calibrated networks"


def test_status_tells_overconfident_from_calibrated_and_too_few():
    z, y = stated(1500, sharp=1.0)
    assert pl.calibration(soft(z), y).ece.status == "pass"
    loud = pl.calibration(soft(3 * z), y)
    assert loud.ece.status == "fail" and "too high" in loud.ece.text and loud.ece.low > loud.ece.reference
    assert pl.calibration(soft(z[:12]), y[:12]).ece.status != "pass", "twelve cases say nothing"


def test_always_stating_the_prevalence_is_calibrated_and_scores_nothing():
    y = np.arange(400) % 4
    found = pl.calibration(np.full((400, 4), 0.25), y)
    assert found.ece.value == pytest.approx(0, abs=1e-12) and found.nll.status == found.brier.status == "inconclusive"
    assert found.nll.reference == pytest.approx(math.log(4))


def test_patients_widen_the_interval():
    z, y = stated(60, sharp=3.0)
    many, who = (np.repeat(v, 10, 0) for v in (z, np.arange(60)))
    alone = pl.calibration(soft(many), np.repeat(y, 10)).nll
    together = pl.calibration(soft(many), np.repeat(y, 10), patients=who.tolist()).nll
    assert together.value == pytest.approx(alone.value) and together.high - together.low > 2 * (alone.high - alone.low)


def test_labels_by_themselves_and_labels_not_known():
    g = np.random.default_rng(0)
    p = g.random((200, 3))
    y = (g.random((200, 3)) < p).astype(float)
    y[:, 2] = (g.random(200) < p[:, 2] ** 3).astype(float)
    y[:50, 0] = np.nan
    found = pl.calibration(p, y, multi_label=True, classes=("a", "b", "c"))
    rows = {r["class"]: r for r in found.classes}
    assert [rows[c]["cases"] for c in "abc"] == [150, 200, 200]
    assert rows["c"]["p"] < 0.05 < rows["a"]["p"] and rows["c"]["ece"] > 3 * rows["a"]["ece"]
    assert found.ece.value == pytest.approx(np.mean([r["ece"] for r in found.classes]))
    assert rows["a"]["brier"] == pytest.approx(((p[50:, 0] - y[50:, 0]) ** 2).mean())


def test_a_truth_given_no_chance_has_no_bounded_loss():
    found = pl.calibration(np.array([[1.0, 0.0], [0.5, 0.5]]), [1, 0])
    assert math.isinf(found.nll.value) and found.nll.status == "fail" and "probability 0" in found.nll.text


@pytest.mark.parametrize(
    ("given", "labels", "word"),
    [
        (np.array([[2.0, -1.0]]), [0], "probabilities lie in"),
        (np.array([[0.4, 0.4]]), [0], "sum to 1"),
        (np.array([[0.4, 0.6]]), [2], "class indices"),
        (np.array([[0.4, 0.6]]), [0, 1], "labels of shape"),
        (np.array([0.4]), [0.5], "0 or 1"),
        (np.array([[np.nan, 0.6]]), [0], "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(given, labels, word):
    with pytest.raises(BadParameter, match=word):
        pl.calibration(given, labels)


# ---------------------------------------------------------------- temperature
def test_twice_the_logits_have_twice_the_temperature():
    z, y = stated(500)
    once, twice = pl.temperature(z, y), pl.temperature(2 * z, y)
    assert twice.value == pytest.approx(2 * once.value, rel=1e-9)
    assert once.value == pytest.approx(1.0, abs=0.15), "labels were drawn from these very logits"
    assert twice.after < twice.before and twice.after == pytest.approx(once.after, rel=1e-12)


def test_temperature_in_closed_form():
    """Two logits a apart, right in a share q: T = a / log(q / (1 - q))."""
    a, right = 3.0, 17
    z = torch.tensor([[a, 0.0]] * 20)
    y = [0] * right + [1] * (20 - right)
    assert pl.temperature(z, y).value == pytest.approx(a / math.log(right / (20 - right)), rel=1e-12)
    assert pl.temperature(torch.tensor([a] * 20), 1 - np.array(y), multi_label=True).value == pytest.approx(
        a / math.log(right / (20 - right))
    )


def test_temperature_is_where_guos_optimizer_goes():
    z, y = stated(200, sharp=3.0)
    logits, labels = torch.from_numpy(z), torch.from_numpy(y)
    t = torch.full((1,), 1.5, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS([t], lr=0.5, max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-14)

    def close():
        search.zero_grad()
        loss = nn.functional.cross_entropy(logits / t, labels)
        loss.backward()
        return loss

    search.step(close)
    assert pl.temperature(z, y).value == pytest.approx(float(t.detach()), rel=1e-6)


def test_vector_agrees_with_logistic_regression():
    """Of one label scale and bias are a logistic regression without penalty."""
    linear = pytest.importorskip("sklearn.linear_model")
    g = np.random.default_rng(2)
    z = 3 * g.normal(size=(300, 2))
    y = (g.random((300, 2)) < 1 / (1 + np.exp(-0.4 * z + 0.7))).astype(float)
    y[:20, 1] = np.nan
    found = pl.temperature(z, y, how="vector", multi_label=True)
    for c in (0, 1):
        known = ~np.isnan(y[:, c])
        peer = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(z[known, c : c + 1], y[known, c])
        assert found.scale[c] == pytest.approx(float(peer.coef_[0, 0]), rel=1e-4)
        assert found.bias[c] == pytest.approx(float(peer.intercept_[0]), rel=1e-4)
    one = pl.temperature(z, y, how="temperature", multi_label=True)
    each = pl.temperature(z, y, how="each", multi_label=True)
    assert found.after <= each.after <= one.after <= one.before


def test_vector_finds_what_was_planted():
    z, y = stated(2500)
    skewed = (z - np.array([0.5, 0.0, 0.0])) * np.array([2.0, 1.0, 3.0])
    found = pl.temperature(skewed, y, how="vector")
    assert np.array(found.scale) * [2, 1, 3] == pytest.approx([1, 1, 1], abs=0.15)
    assert pl.calibration(soft(found(torch.from_numpy(skewed)).numpy()), y).ece.value < 0.02


def test_no_best_temperature_is_said():
    with pytest.raises(BadParameter, match="without a single mistake"):
        pl.temperature(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), [0, 1])
    with pytest.raises(BadParameter, match="say nothing of the truth"):
        pl.temperature(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), [1, 0])
    with pytest.raises(BadParameter, match="'each'"):
        pl.temperature(torch.rand(4, 2), [0, 1, 0, 1], how="each")


class Branching(nn.Module):
    """Gives a dict of two outputs."""

    def __init__(self, dims: int, outputs: int = 3) -> None:
        super().__init__()
        conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
        self.body = nn.Sequential(conv(1, 6, 3), nn.ReLU(), pool(1), nn.Flatten())
        self.head = nn.Linear(6, outputs)

    def forward(self, x):
        return {"aux": x.mean(), "out": (4 * self.head(self.body(x))).softmax(1)}


@pytest.mark.parametrize("dims", [2, 3])
def test_a_network_with_a_temperature_keeps_its_weights_sites_and_itself(dims):
    torch.manual_seed(0)
    module = Branching(dims).train()
    net = pl.Model(module, classes=("a", "b", "c"), select="out", ends_in="softmax")
    x = torch.rand(1, *[7] * dims)
    scaling = pl.temperature(stated(300, sharp=2.5)[0], stated(300)[1])
    assert eval(repr(scaling), {"Temperature": type(scaling)}) == scaling, "its repr is exact"
    before = pl.explain(net, x, "b", method="saliency")
    scaled = scaling.model(net)
    after = pl.explain(scaled, x, "b", method="saliency")
    known = before.probabilities
    wanted = (torch.tensor(known, dtype=torch.float64).log() / scaling.value).softmax(0)
    assert torch.tensor(after.probabilities, dtype=torch.float64) == pytest.approx(wanted, rel=1e-5)
    assert before.values == pytest.approx(scaling.value * after.values, rel=1e-3, abs=1e-7), "a logit's slope is divided"
    assert (
        pl.explain(scaled, x, "b", method="grad_cam", site="body.1").grid == pl.explain(net, x, "b", method="grad_cam", site="body.1").grid
    )
    assert all(a is b for a, b in zip(module.parameters(), scaled.module.parameters(), strict=True))
    assert not module._forward_hooks and module.training and scaled.source["notes"]
    assert pl.explain(net, x, "b", method="saliency").probabilities == known


def test_single_logit_and_dense_outputs():
    class One(nn.Module):
        def forward(self, x):
            return 3 * x.flatten(1).mean(1)

    net = pl.Model(One(), classes=("healthy", "ill"))
    images = [torch.full((1, 4, 4), float(v)) for v in np.random.default_rng(0).normal(size=80)]
    y = [int(float(i.mean()) + n > 0) for i, n in zip(images, np.random.default_rng(1).normal(size=80), strict=True)]
    scaling = pl.temperature(net, y, images)
    assert scaling.classes == ("ill",) and scaling.value == pytest.approx(pl.temperature(3 * torch.stack(images).mean((1, 2, 3)), y, multi_label=True).value, rel=1e-6)  # fmt: skip
    plain, scaled = (pl.calibration(n, y, images) for n in (net, scaling.model(net)))
    assert scaled.nll.value < plain.nll.value and scaled.nll.value == pytest.approx(scaling.after)
    z, labels = stated(600)
    volume = torch.from_numpy(z).view(2, 300, 3).permute(0, 2, 1).reshape(2, 3, 5, 6, 10)
    dense = pl.temperature(volume, labels.reshape(2, 5, 6, 10))
    assert dense.value == pytest.approx(pl.temperature(z, labels).value) and dense(volume).shape == volume.shape
    found = pl.calibration(volume.softmax(1), labels.reshape(2, 5, 6, 10))
    assert found.ece.value == pytest.approx(pl.calibration(soft(z), labels).ece.value)
    assert found.ece.detail["patients"] == 2, "voxels of one image are not independent"


def test_a_regression_has_nothing_to_calibrate():
    with pytest.raises(Unsupported, match="regression"):
        pl.calibration(pl.Model(nn.Flatten(), output="regression"), [1], [torch.rand(1, 2, 2)])


def test_reliability_is_drawn():
    import base64

    from pellucid.report.plots import reliability_plot

    z, y = stated(300, sharp=2.0)
    tables = {"before": pl.calibration(soft(z), y).bins, "after": pl.calibration(soft(z / 2), y).bins}
    assert b"<svg" in base64.b64decode(reliability_plot(tables, "Reliability"))


def test_the_error_is_never_below_the_mean_gap():
    """Five wrong cases were off by 0.0 points, ten by 46.2 beside "too high by 77.0": bins of one case counted nothing."""
    for n in (1, 2, 3, 5, 10, 15, 60):
        for seed in range(4):
            g = np.random.default_rng(seed)
            p, y = g.uniform(0.2, 0.99, n), (g.random(n) < 0.4).astype(float)
            found = pl.calibration(p, y, bins=int(g.integers(1, 20))).ece
            assert found.value >= abs((p - y).mean()) - 1e-12
            assert found.value >= abs(found.detail["over"]) - 1e-12
    sure = np.linspace(0.55, 0.99, 10)
    wrong = pl.calibration(np.stack([1 - sure, sure], 1), [0] * 10).ece
    assert wrong.value == pytest.approx(sure.mean(), abs=1e-9) and wrong.status == "fail"


def test_one_case_or_two_pass_nothing():
    """One case, 99 % sure and wrong, passed with an error of 0.0 points."""
    for p, y in (([[0.01, 0.99]], [0]), ([[0.3, 0.7]], [1]), ([[0.001, 0.999]], [1]), ([[0.01, 0.99]] * 2, [1, 1])):
        found = pl.calibration(np.array(p), y).ece
        assert found.status != "pass"
        assert (found.low, found.high) == (None, None), "fewer than three patients bear no interval"
        assert "nan" not in found.text
    assert pl.calibration(np.array([[0.01, 0.99]]), [0]).ece.value == pytest.approx(0.99)


def test_scores_and_their_intervals_stay_in_their_range():
    """Brier said 0.667 [-1.280, 10.084] of a score from 0 to 2."""
    few = pl.calibration(np.array([[0, 1], [1, 0], [0, 1]]), [1, 0, 0])
    assert 0 <= few.brier.low <= few.brier.value <= few.brier.high <= 2
    z, y = stated(8, 3, sharp=3.0)
    found = pl.calibration(soft(z), y)
    assert 0 <= found.nll.low <= found.nll.value <= found.nll.high
