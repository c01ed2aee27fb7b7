"""Complexity: closed forms, chance levels, the patient's units, and independence of what is graded beside it."""

import math

import pytest
import torch
from tests.evidence.toy import learned, positives

import pellucid as pl
from pellucid.evidence.complexity.spread import LOST
from pellucid.evidence.grade import open_panel
from pellucid.evidence.metric import METRICS
from pellucid.evidence.panel import Entry, Panel
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.run import Run


def panel_of(maps: dict[str, torch.Tensor], grid: Grid | None = None) -> Panel:
    """A panel of given maps, without a network's help."""
    shape = next(iter(maps.values())).shape
    image = Image(torch.rand((1, *shape), generator=torch.Generator().manual_seed(0)), grid or Grid(tuple(shape)))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(math.prod(shape), 2))
    panel = open_panel(pl.Model(net), image, ["saliency"], target=1, run=Run())
    panel.entries = {n: Entry(m.double(), control=True) for n, m in maps.items()}
    return panel


def test_a_map_of_one_sample_an_even_one_and_noise_are_what_the_formulas_say():
    n, shape = 24 * 20, (24, 20)
    one = torch.zeros(shape)
    one[3, 4] = -2.0
    noise = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    panel = panel_of({"one": one, "even": torch.full(shape, 0.3), "noise": noise, "half": (torch.arange(n) % 2).view(shape)})
    h, size, count = (METRICS[m].measure(panel) for m in ("entropy", "effective_size", "effective_complexity"))
    assert [h[k].value for k in ("one", "even", "half")] == pytest.approx([0, math.log(n), math.log(n / 2)])
    assert [size[k].value for k in ("one", "even", "half")] == pytest.approx([1 / n, 1, 0.5])
    assert [count[k].value for k in ("one", "even", "half")] == pytest.approx([1 / n, 1, 0.5])
    assert h["one"].status == "pass" and h["even"].status == "fail"
    assert h["noise"].value == pytest.approx(h["noise"].reference, abs=0.05) and size["noise"].value == pytest.approx(
        math.exp(-LOST), abs=0.04
    )
    ratio = METRICS["effective_size"](order="participation").measure(panel)
    assert ratio["half"].value == pytest.approx(0.5) and ratio["noise"].value == pytest.approx(0.75, abs=0.04)
    assert h["one"].detail["edges"] > 0, "the image's edges stand beside"


def test_entropy_is_that_of_scipy_and_of_quantus():
    quantus = pytest.importorskip("quantus")
    from scipy.stats import entropy

    a = torch.randn((8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = METRICS["entropy"].measure(panel_of({"a": a}))["a"].value
    assert found == pytest.approx(entropy(a.abs().flatten().numpy()), rel=1e-12)
    theirs = quantus.Complexity(disable_warnings=True, normalise=False, abs=True)
    x = torch.rand(1, 1, 8, 8).numpy()
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2)).eval()
    (value,) = theirs(model=net, x_batch=x, y_batch=torch.tensor([1]).numpy(), a_batch=a[None, None].numpy())
    assert found == pytest.approx(float(value), rel=1e-6)


def test_a_scan_has_its_size_in_cubic_millimeters():
    a = torch.zeros(10, 10, 4)
    a[2:6, 3:5, 1:3] = 1.0
    found = METRICS["effective_size"].measure(panel_of({"a": a}, Grid.spaced((10, 10, 4), (0.5, 0.5, 3.0))))["a"]
    assert found.detail["extent"] == pytest.approx(16 * 0.75) and found.detail["extent_unit"] == "mm3"
    count = METRICS["effective_complexity"].measure(panel_of({"a": a[..., 0] + a[..., 1]}, Grid.spaced((10, 10), (0.5, 0.5))))["a"]
    assert count.detail["extent"] == pytest.approx(8 * 0.25) and count.detail["extent_unit"] == "mm2"


def test_fault_8_a_large_map_beside_it_changes_no_maps_number():
    a = torch.rand((16, 16), generator=torch.Generator().manual_seed(0))
    for name in ("effective_complexity", "entropy", "effective_size", "gini"):
        alone = METRICS[name].measure(panel_of({"a": a}))["a"].value
        beside = METRICS[name].measure(panel_of({"a": a, "large": 1e6 * a, "huge": 1e12 * a.flip(0)}))
        assert beside["a"].value == alone and beside["large"].value == pytest.approx(alone, rel=1e-6)


@pytest.mark.parametrize("dims", [2, 3])
def test_a_learned_map_is_more_concentrated_than_its_image_and_than_noise(dims):
    x = positives(learned(dims), 1, 3, dims)[0]
    found = pl.grade(learned(dims), x, ["lrp"], ["entropy", "effective_size"], target=1, controls=("random",))
    own, noise = found["lrp", "entropy"], found["random", "entropy"]
    assert own.status == "pass" and own.value < min(own.detail["edges"], noise.value)
    assert noise.value == pytest.approx(noise.reference, abs=0.03)
    assert found["lrp", "effective_size"].value == pytest.approx(math.exp(own.value) / x[0].numel())
