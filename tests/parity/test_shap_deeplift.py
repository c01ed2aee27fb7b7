"""Agreement with shap's DeepExplainer, and with Captum where no two nonlinearities follow each other."""

import copy

import pytest
import torch
from tests.parity.nets import SPACE, TARGET, Row, cases, name
from torch import nn

import pellucid as pl


def plain(dims, kind):
    """Modules only, none reused, none in place: what the peers ask for. ``pooled`` has ReLU before MaxPool, ``smooth`` other activations."""
    conv, pool = (nn.Conv2d, nn.MaxPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d)
    space = [n // 2 for n in SPACE[dims]]
    acts = {"pooled": (nn.ReLU, nn.ReLU), "relu": (nn.ReLU, nn.ReLU), "smooth": (nn.Sigmoid, nn.Softplus), "leaky": (nn.LeakyReLU, nn.Tanh)}
    one, two = acts[kind]
    layers = [conv(2, 4, 3, padding=1), one(), *([pool(2)] if kind == "pooled" else [conv(4, 4, 2, stride=2)])]
    flat = 4 * int(torch.tensor(space).prod())
    made = nn.Sequential(*layers, conv(4, 4, 3, padding=1), two(), nn.Flatten(), nn.Linear(flat, 5), nn.ReLU(), nn.Linear(5, 3))
    g = torch.Generator().manual_seed(dims)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.3)
    return copy.deepcopy(made).double().eval()


def image(dims, seed=1):
    return torch.rand((2, *SPACE[dims]), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def references(dims, n):
    return [image(dims, 20 + k) for k in range(n)]


def _shap(kind, n):
    def maps(dims):
        shap = pytest.importorskip("shap", reason="shap is not installed")
        refs = references(dims, n)
        peer = shap.DeepExplainer(plain(dims, kind), torch.stack(refs)).shap_values(image(dims)[None], check_additivity=False)
        method = "deeplift" if n == 1 else "deep_shap"
        found = pl.explain(plain(dims, kind), image(dims), TARGET, method=method, baseline=pl.each_of(refs))
        return found.values, torch.as_tensor(peer)[0, ..., TARGET]

    return maps


def _captum(kind, method):
    def maps(dims):
        attr = pytest.importorskip("captum.attr")
        refs = references(dims, 3 if method == "deep_shap" else 1)
        asked = attr.DeepLiftShap if method == "deep_shap" else attr.DeepLift
        peer = asked(plain(dims, kind)).attribute(image(dims)[None], torch.stack(refs), TARGET)
        return pl.explain(plain(dims, kind), image(dims), TARGET, method=method, baseline=pl.each_of(refs)).values, peer[0].detach()

    return maps


ROWS = [
    *[Row("shap", f"deeplift, {kind}", _shap(kind, 1), 1e-5) for kind in ("relu", "pooled", "smooth", "leaky")],
    *[Row("shap", f"deep_shap, {kind}, 4 references", _shap(kind, 4), 1e-5) for kind in ("relu", "pooled")],
    *[Row("Captum", f"deeplift, {kind}", _captum(kind, "deeplift"), 1e-5) for kind in ("relu", "smooth", "leaky")],
    Row("Captum", "deep_shap, relu, 3 references", _captum("relu", "deep_shap"), 1e-5),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_deeplift(row, dims):
    row.check(dims)
