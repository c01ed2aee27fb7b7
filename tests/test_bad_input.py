"""Bad input: one line that says what was asked, what was got and the way out; and nothing of the caller's is changed."""

import contextlib
import random
import threading
import warnings

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid import errors
from pellucid.errors import BadImage, BadModel, BadParameter, BadSite, BadTarget, PellucidError, Unsupported
from pellucid.probe.ending import SCALED, UNTOLD

X = torch.rand(1, 12, 10, generator=torch.Generator().manual_seed(0))
METHODS = ("saliency", "integrated_gradients", "occlusion", "rise")
QUICK = {
    "integrated_gradients": {"steps": 8},
    "occlusion": {"window": "4px", "stride": "3px"},
    "rise": {"masks": 12, "cells": 3},
    "saliency": {},
}


class Net(nn.Module):
    """In training mode, with everything that a careless tool would leave changed."""

    def __init__(self, dtype=torch.float32) -> None:
        super().__init__()
        self.conv, self.norm, self.act, self.drop = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.head = nn.Linear(4, 3)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for p in self.parameters():
                nn.init.normal_(p, 0, 0.5)
        self.to(dtype).train()
        self.conv.eval()
        self.head.bias.requires_grad_(False)
        self.head.weight.grad = torch.ones_like(self.head.weight)
        self.norm.register_forward_hook(_hook)

    def forward(self, x):
        return self.head(self.drop(self.act(self.norm(self.conv(x)))).mean((2, 3)))


def _hook(module, args, output):
    return None


class Around(nn.Module):
    """A network with something done to its output."""

    def __init__(self, do, net=None) -> None:
        super().__init__()
        self.net, self.do, self.calls = Net() if net is None else net, do, 0

    def forward(self, x):
        self.calls += 1
        return self.do(self.net(x), x, self.calls)


def state(net, image):
    """All that must be the same afterwards, as comparable values."""
    tensors = {f"p {n}": (id(p), p._version, p.requires_grad, p.detach().clone()) for n, p in net.named_parameters()}
    tensors |= {f"b {n}": (id(b), 0, b.requires_grad, b.detach().clone()) for n, b in net.named_buffers()}
    grads = {n: None if p.grad is None else (id(p.grad), p.grad.clone()) for n, p in net.named_parameters()}
    modules = {}
    for n, m in net.named_modules():
        hooks = tuple(tuple(getattr(m, k)) for k in vars(m) if k.endswith("_hooks") and isinstance(getattr(m, k), dict))
        modules[n] = (
            m.training,
            getattr(m, "inplace", None),
            hooks,
            tuple(dict(m.named_parameters(recurse=False))),
            tuple(dict(m.named_buffers(recurse=False))),
            m.__dict__.get("forward"),
        )
    chance = (torch.get_rng_state(), np.random.get_state()[1].tolist(), np.random.get_state()[2], random.getstate())  # noqa: NPY002
    seen = image if isinstance(image, torch.Tensor) else torch.zeros(())
    given = (id(image), seen._version, seen.requires_grad, seen.grad if seen.is_leaf else None, seen.stride(), seen.detach().clone())
    modes = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.get_default_dtype())
    return tensors, grads, modules, chance, given, modes


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


@contextlib.contextmanager
def unchanged(net, image=X):
    before = state(net, image)
    yield
    after = state(net, image)
    for name, a, b in zip(("tensors", "grads", "modules", "random states", "image", "modes"), before, after, strict=True):
        assert same(a, b), f"{name} changed"


@contextlib.contextmanager
def refused(kind, *parts):
    with pytest.raises(kind) as caught:
        yield
    e = caught.value
    assert isinstance(e, PellucidError) and e.asked and e.got and e.fix and str(e) == f"{e.asked}; got {e.got}. {e.fix}"
    assert "\n" not in str(e) and len(str(e)) < 500
    for part in parts:
        assert part in str(e), str(e)


def asked(net, image=X, target=1, method="saliency", **more):
    return pl.explain(net, image, target, method=method, **{**QUICK.get(method, {}), **more})


# ---------------------------------------------------------------------------------------------------- images
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("method", METHODS)
def test_voxels_that_are_no_numbers(value, method):
    net, bad = Net(), X.clone()
    bad[0, 3, 4] = value
    with unchanged(net, bad), refused(BadImage, "1 of 120", "nan_to_num"):
        asked(net, bad, method=method)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (torch.rand(12, 10), "(12, 10)"),
        (torch.rand(1, 1, 12, 10)[None], "(1, 1, 1, 12, 10)"),
        (torch.rand(1, 0, 10), "(1, 0, 10)"),
        ([[1.0, 2.0]] * 3, "list"),
        (None, "NoneType"),
        (np.array([["a", "b"]]), "<U1"),
        (torch.rand(1, 4, 4).to(torch.complex64), "complex"),
    ],
)
def test_what_is_no_image(image, says):
    net = Net()
    with unchanged(net), refused(BadImage, says):
        pl.Image(image) if isinstance(image, list) else asked(net, image)


@pytest.mark.parametrize("method", METHODS)
def test_channels_that_do_not_match(method):
    net, color = Net(), torch.rand(3, 12, 10)
    with unchanged(net, color), refused(BadModel, "3, 12, 10"):
        asked(net, color, method=method)


def test_dimensions_that_do_not_match():
    net, volume = Net(), torch.rand(1, 6, 6, 6)
    with unchanged(net, volume), refused(BadModel, "1, 6, 6, 6"):
        asked(net, volume)
    layered = nn.Sequential(nn.BatchNorm2d(1), Net())  # batch norm says it with a ValueError of its own
    with unchanged(layered, volume), refused(BadModel, "takes another input", "1, 6, 6, 6"):
        asked(layered, volume)


def test_an_image_smaller_than_the_kernel():
    net, tiny = Net(), torch.rand(1, 2, 2)
    with unchanged(net, tiny), refused(BadModel, "2, 2"):
        asked(net, tiny)


def test_an_image_smaller_than_the_window():
    net = Net()
    with unchanged(net), refused(PellucidError, "window"):
        asked(net, method="occlusion", window="16px")


def test_normalization_of_another_count_of_channels():
    net = Net()
    with unchanged(net), refused(BadImage, "3 channels"):
        asked(pl.Model(net, normalize=pl.Normalize((0.1, 0.2, 0.3), 1.0)))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["transposed", "sliced", "leaf", "graph", "half", "integers", "array", "inference", "expanded"])
def test_images_of_every_make_give_the_same_map(kind, method):
    plain = X.clone()
    plain[0] = (plain[0] * 16).round() / 16  # exact in half precision and in sixteenths
    given = {
        "transposed": lambda: plain.transpose(1, 2).contiguous().transpose(1, 2),
        "sliced": lambda: torch.stack([plain, plain], -1).flatten(2)[..., ::2],
        "leaf": lambda: plain.clone().requires_grad_(),
        "graph": lambda: plain.clone().requires_grad_() * 1.0,
        "half": lambda: plain.half(),
        "integers": lambda: (plain * 16).to(torch.int16),
        "array": lambda: np.asfortranarray(plain.numpy()),
        "inference": lambda: _inferred(plain),
        "expanded": lambda: plain[:, :1].expand(1, 12, 10),
    }[kind]()
    net = Net()
    scale = 16 if kind == "integers" else 1
    reference = asked(net, (plain[:, :1].expand(1, 12, 10).clone() if kind == "expanded" else plain) * scale, method=method).values
    with unchanged(net, given if kind != "inference" else X):
        why = asked(net, given, method=method)
    assert torch.allclose(why.values, reference, atol=1e-6) and not why.values.requires_grad
    if kind == "leaf":
        assert given.grad is None


def _inferred(x):
    with torch.inference_mode():
        return x.clone()


def test_a_metatensor_keeps_its_affine():
    monai = pytest.importorskip("monai.data")
    affine = torch.tensor([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]], dtype=torch.float64)
    meta = monai.MetaTensor(torch.rand(1, 6, 7, 8), affine=affine)
    net = nn.Sequential(nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten())
    with unchanged(net, meta):
        why = asked(net, meta)
    assert type(why.values) is torch.Tensor and np.allclose(why.grid.matrix, affine.numpy()) and why.grid.unit == "mm"
    assert torch.equal(meta.affine, affine) and why.grid.orientation == "LAS"


# ---------------------------------------------------------------------------------------------------- targets
@pytest.mark.parametrize(
    ("target", "classes", "says"),
    [
        (3, (), ("0 to 2", "3")),
        (-1, (), ("0 to 2", "-1")),
        (True, (), ("bool",)),
        (3, ("a", "b", "c"), ("0 to 2",)),
        ("edma", ("edema", "effusion", "mass"), ("'edma'", "'edema'")),
        ("zebra", ("edema", "effusion", "mass"), ("'zebra'", "'effusion'")),
        ("edema", (), ("classes=",)),
        (1.5, (), ("float",)),
        (pl.logit("edema") - pl.logit("nothing"), ("edema", "effusion", "mass"), ("'nothing'",)),
        (pl.probability(7), (), ("0 to 2",)),
        (lambda out: out, (), ("(n,)",)),
        (lambda out: out.sum(), (), ("shape ()",)),
        (lambda out: out[:, :2], (), ("2)", "logit")),
        (lambda out: 3.0, (), ("float",)),
        (lambda out: out.argmax(1), (), ("differentiable",)),
        (lambda out: out.detach()[:, 0], (), ("differentiable",)),
        (pl.region(1), (), ("dense", "logit(1)")),
        (pl.neuron("conv", (9, 1, 1)), (), ("(4, 10, 8)",)),
        (pl.neuron("cnv", (1, 1, 1)), (), ("'conv'",)),
        (pl.channel("conv", 4), (), ("(4, 10, 8)",)),
    ],
)
def test_targets_that_do_not_exist(target, classes, says):
    net = Net()
    says = tuple("shape (1," if s == "(n,)" else s for s in says)
    with unchanged(net), refused(PellucidError, *says):
        asked(pl.Model(net, classes=classes), target=target)


@pytest.mark.parametrize("method", ["occlusion", "rise"])
def test_a_target_of_the_wrong_shape_without_gradients(method):
    net = Net()
    with unchanged(net), refused(BadTarget, "one number per sample"):
        asked(net, target=lambda out: out, method=method)
    with unchanged(net), refused(BadTarget, "0 to 2"):
        asked(net, target=5, method=method)


def test_targets_of_dense_outputs():
    net = nn.Conv2d(1, 3, 3, padding=1)
    with unchanged(net), refused(BadTarget, "region(1)"):
        asked(net, target=1)
    with unchanged(net), refused(BadTarget, "(5, 5)"):
        asked(net, target=pl.region(1, mask=torch.ones(5, 5)))
    with unchanged(net), refused(BadTarget, "empty mask"):
        asked(net, target=pl.region(1, mask=torch.zeros(12, 10)))
    with unchanged(net), refused(BadTarget, "0 to 2"):
        asked(net, target=pl.region(3, mask=torch.ones(12, 10)))


def test_class_names_that_do_not_count():
    net = Net()
    with unchanged(net), refused(BadModel, "2", "3"):
        asked(pl.Model(net, classes=("a", "b")), target="a")
    with refused(BadModel, "'a'"):
        pl.Model(net, classes=("a", "b", "a"))
    with refused(BadModel, "'abc'"):
        pl.Model(net, classes="abc")


# ---------------------------------------------------------------------------------------------------- sites
@pytest.mark.parametrize(
    ("site", "says"),
    [("cnov", ("'conv'",)), ("layer9", ("Nearest",)), ("conv#3", ("#3", "conv#0")), ("conv[2]", ("conv",))],
)
def test_sites_that_do_not_exist(site, says):
    net = Net()
    with unchanged(net), refused(BadSite, *says):
        asked(net, site=site)


def test_a_module_that_never_runs_and_one_that_runs_twice():
    class Twice(Net):
        def __init__(self):
            super().__init__()
            self.unused = nn.Linear(1, 1)

        def forward(self, x):
            return super().forward(self.act(x + 1) - 1)

    net = Twice()
    with unchanged(net), refused(BadSite, "'unused'", "does not run"):
        asked(net, site="unused")
    with unchanged(net), refused(BadSite, "act#0", "act#1"):
        asked(net, site="act")


# ---------------------------------------------------------------------------------------------------- models
def test_what_is_no_model():
    with refused(BadModel, "Module"):
        asked(lambda x: x)
    with refused(BadModel, "'logit'"):
        pl.Model(Net(), output="logit")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS)
def test_half_precision(dtype, method):
    net = Net(dtype)
    with unchanged(net), refused(BadModel, str(dtype), ".float()"):
        asked(net, method=method)


@pytest.mark.parametrize(
    ("do", "says"),
    [
        (lambda out, x, n: {"logits": out, "features": x}, ("a dict with 'logits', 'features'", "select='logits'")),
        (lambda out, x, n: (out, x), ("a tuple of 2", "select=0")),
        (lambda out, x, n: [out, out], ("a list of 2", "select=0")),
        (lambda out, x, n: out.sum(), ("one output per sample",)),
        (lambda out, x, n: out.T, ("one output per sample",)),
        (lambda out, x, n: None, ("NoneType",)),
        (lambda out, x, n: out.detach(), ("differentiable",)),
        (lambda out, x, n: out.long(), ("differentiable",)),
        (lambda out, x, n: torch.complex(out, out), ("complex",)),
    ],
)
def test_outputs_that_were_not_described(do, says):
    net = Around(do)
    with unchanged(net), refused(BadModel, *says):
        asked(net)


@pytest.mark.parametrize("method", METHODS)
def test_scores_that_are_no_numbers(method):
    net = Around(lambda out, x, n: out * float("nan"))
    with unchanged(net), refused(PellucidError, "NaN"):
        asked(net, method=method)


ENDINGS = {
    "softmax": (lambda out: out.softmax(1), "softmax"),
    "a layer": (nn.Softmax(1), "softmax"),
    "sigmoid": (torch.sigmoid, "sigmoid"),
    "one number": (lambda out: out[:, :1].sigmoid().squeeze(1), "sigmoid"),
    "written into": (lambda out: out.clone().sigmoid_(), "sigmoid"),
    "half of a sum": (lambda out: (out.softmax(1) + (2 * out).softmax(1)) / 2, "softmax"),
    "half of a sum of sigmoids": (lambda out: (out.sigmoid() + (2 * out).sigmoid()) / 2, "sigmoid"),
    "that it is not so": (lambda out: 1 - out.sigmoid(), "sigmoid"),
    "clamped": (lambda out: out.softmax(1).clamp(1e-6, 1 - 1e-6), "softmax"),
    "an exponential": (lambda out: out.log_softmax(1).exp(), "softmax"),
    "a sum from nothing on": (lambda out: sum(torch.sigmoid(k * out) for k in (1, 2)) / 2, "sigmoid"),
    "a sum from zeros on": (lambda out: torch.zeros_like(out).add_(out.sigmoid()).add_((2 * out).sigmoid()) / 2, "sigmoid"),
    "weighted": (lambda out: 0.7 * out.sigmoid() + 0.3 * (2 * out).sigmoid(), "sigmoid"),
    "without NaN": (lambda out: torch.nan_to_num(out.sigmoid()), "sigmoid"),
    "with zeros for NaN": (lambda out: torch.where(out.isnan(), torch.zeros_like(out), out.sigmoid()), "sigmoid"),
    "parent and child": (lambda out: torch.stack([out[:, 0].sigmoid(), out[:, 0].sigmoid() * out[:, 1].sigmoid()], 1), "sigmoid"),
    "a logarithm taken back": (lambda out: nn.functional.logsigmoid(out).exp(), "sigmoid"),
    "of the image's kind": (lambda out: out.sigmoid().type_as(X), "sigmoid"),
    "the largest of parts": (lambda out: torch.stack([out, 2 * out], 2).sigmoid().amax(2), "sigmoid"),
    "a mean of several": (lambda out: torch.stack([out.softmax(1), (2 * out).softmax(1)]).mean(0), "softmax"),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("do", "kind"), ENDINGS.values(), ids=ENDINGS)
def test_probabilities_are_not_read_as_logits(do, kind, method):
    """A report would say 50 % of what the network calls 0.02 %."""
    net = Around(lambda out, x, n: do(out))
    with unchanged(net), refused(BadModel, f"ends in a {kind}", f"ends_in='{kind}'"):
        asked(net, target=0, method=method)
    with torch.no_grad():
        own = do(Net().eval()(X[None])).flatten().tolist()
    why = pl.explain(pl.Model(net, ends_in=kind), X, 0, method=method, **QUICK[method])
    assert why.probabilities == pytest.approx(own, rel=1e-4)


TAILS = {
    "one column": lambda out: out[:, :1].sigmoid().squeeze(1), "a column of several": lambda out: out.sigmoid()[:, 0],
    "flat": lambda out: out[:, :1].sigmoid().flatten(), "members": lambda out: torch.stack([out.sigmoid(), (2 * out).sigmoid()]).mean(0),
    "half of a sum": lambda out: (out.sigmoid() + (2 * out).sigmoid()) / 2,
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("do", TAILS.values(), ids=TAILS)
def test_the_graph_of_a_traced_network_is_followed(do):
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = Net().eval()

        def forward(self, x):
            out = self.net(x)
            return {"sure": do(out), "scores": out * 1e-3 + 0.5}, (do(out), out.sigmoid() * 0.5)

    traced = torch.jit.trace(Several().eval(), X[None], strict=False)
    for select in ((0, "sure"), (1, 0)):
        with refused(BadModel, "ends in a sigmoid"):
            asked(pl.Model(traced, select=select), target=0)
    assert not asked(pl.Model(traced, select=(0, "scores")), target=0).provenance.caveats
    assert UNTOLD in asked(pl.Model(traced, select=(1, 1)), target=0).provenance.caveats, "halves of probabilities"


def test_a_softmax_by_hand_behind_a_standardization_and_a_sure_first_image():
    class ByHand(nn.Module):
        def __init__(self, times=1.0):
            super().__init__()
            self.net, self.times = Net().eval(), times

        def forward(self, x):
            x = (x - x.mean((1, 2, 3), keepdim=True)) / (x.std((1, 2, 3), keepdim=True) + 1e-6)
            z = self.times * self.net(x)
            e = (z - z.amax(1, keepdim=True)).exp()
            return e / e.sum(1, keepdim=True)

    with refused(BadModel, "ends in a softmax"):
        asked(ByHand(), target=0)
    sure = ByHand(1e6)
    assert any("nothing tells whether they are probabilities" in c for c in asked(sure, target=0).provenance.caveats)
    sure.times = 1.0  # an image that it is less sure of
    with refused(BadModel, "ends in a softmax"):
        asked(sure, target=0)


def _written(out):
    prepared = torch.zeros(len(out), 3)
    for k in range(3):
        prepared[:, k] = out[:, k].sigmoid()
    return prepared


def _copied(out):
    prepared = out.new_zeros(len(out), 3)
    prepared[:, :2].copy_(out[:, :2].sigmoid())
    return prepared


@pytest.mark.parametrize("do", [_written, _copied])
def test_probabilities_that_are_written_into_what_was_prepared_are_seen(do):
    with refused(BadModel, "ends in a sigmoid"):
        asked(Around(lambda out, x, n: do(out)), target=0)


def _mixed(out, x):
    prepared = torch.zeros(len(out), 2)
    prepared[:, 0], prepared[:, 1] = out[:, 0].sigmoid(), out[:, 1] * 1e-3 + 0.5
    return prepared


def _sliding(out, x):
    prepared, counts = torch.zeros(len(out), 3), torch.ones(len(out), 3) * 2
    prepared[:, :2] += out[:, :2].sigmoid()
    prepared[:, 1:] += out[:, 1:].sigmoid()
    return prepared / counts


UNKNOWN = {
    "mixed": _mixed, "sliding": _sliding, "the rest to one": lambda out, x: torch.ones_like(out) - out.sigmoid(),
    "masked": lambda out, x: out.sigmoid() * (x.mean((1, 2, 3)) > 0).float()[:, None], "squared": lambda out, x: out.sigmoid() ** 2,
    "scaled": lambda out, x: out.sigmoid() * 0.5, "shifted": lambda out, x: out.sigmoid() * 0.5 + 0.1,
    "written into": lambda out, x: (out.sigmoid() ** 2).add_(0.01), "grouped": lambda out, x: out.sigmoid() @ torch.eye(3)[:, :2] * 1.0,
    "grouped by a layer": lambda out, x: nn.functional.linear(out.softmax(1), torch.tensor([[0.0, 1.0, 1.0]])),
    "members at once": lambda out, x: torch.func.vmap(lambda k: (k * out).sigmoid())(torch.ones(2)).mean(0),
}  # fmt: skip


@pytest.mark.parametrize("do", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_made_of_probabilities_by_unknown_steps_is_told(do):
    assert UNTOLD in asked(Around(lambda out, x, n: do(out, x)), target=0).provenance.caveats


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("make", [lambda net: torch.jit.trace(net, X[None]), torch.jit.script], ids=["traced", "scripted"])
def test_a_script_inside_a_network_is_out_of_sight(make):
    net = [nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    sure = make(nn.Sequential(*net, nn.Sigmoid()).eval())
    for do in (lambda out: out, lambda out: out[:, 1:2], lambda out: (out + out) / 2):
        assert UNTOLD in asked(Around(lambda out, x, n, do=do: do(out), sure), target=0).provenance.caveats
    scores = make(nn.Sequential(*net).eval())
    for scale in (100, 1e-3):
        behind = nn.Sequential(scores, nn.Linear(3, 2))
        nn.init.constant_(behind[1].weight, scale), nn.init.constant_(behind[1].bias, 0.5)
        assert not asked(behind, target=0).provenance.caveats, "a layer of its own makes scores"


@pytest.mark.parametrize("members", [1, 10])
def test_probabilities_above_one_by_rounding(members):
    def mean(out, x, n):
        total = torch.zeros_like(out)
        for _ in range(members):
            total = total + (out * 1e3).softmax(1) / members
        return total

    assert (mean(Net().eval()(X[None]), None, 0).max() > 1) == (members == 10), "what this is about"
    with refused(BadModel, "ends in a softmax", "ends_in='softmax'"):
        asked(Around(mean), target=0)


def test_one_class_of_a_softmax_is_said_to_be_a_sigmoid():
    net = Around(lambda out, x, n: out.softmax(1)[:, 1])
    with refused(BadModel, "ends in a softmax", "ends_in='sigmoid'"):
        asked(net, target=0)
    assert 0 < asked(pl.Model(net, ends_in="sigmoid"), target=0).probabilities[0] < 1


@pytest.mark.parametrize(
    "do",
    [lambda out: 100 * out.sigmoid(), lambda out: out.softmax(1) * 100, lambda out: 3 * out.sigmoid() - 0.2],
    ids=["percent", "percent of a softmax", "thrown over both ends"],
)
def test_scaled_probabilities_are_told(do):
    assert SCALED in asked(Around(lambda out, x, n: do(out)), target=0).provenance.caveats
    assert SCALED not in asked(pl.Model(Around(lambda out, x, n: do(out)), output="regression"), target=0).provenance.caveats


def test_gates_inside_a_network_say_nothing_of_its_end():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.head = Net().eval(), nn.Linear(3, 3)

        def forward(self, x):
            z = self.net(x)
            return self.head(z * z.sigmoid() + z) * 1e-3 + 0.5

    assert not asked(Gated(), target=0).provenance.caveats


class FromDict(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(X.numel(), 2)).eval()

    def inner(self, x):
        return {"out": torch.sigmoid(self.net(x))}

    def forward(self, x):
        return self.inner(x)["out"]


class FromTuple(FromDict):
    def inner(self, x):
        return torch.sigmoid(self.net(x)), x

    def forward(self, x):
        return self.inner(x)[0]


class FromUnpacked(FromTuple):
    def forward(self, x):
        p, _ = self.inner(x)
        return p[:, [1, 0]]


class Branch(FromDict):
    def forward(self, x):
        z = self.net(x)
        if bool(z.sum() > -1e9):
            z = torch.sigmoid(z)
        return z


class Fills(FromDict):
    def forward(self, x):
        z, out = self.net(x), torch.zeros(x.shape[0], 2)
        out[:, 0] = torch.sigmoid(z[:, 0])
        out[:, 1] = torch.sigmoid(z[:, 1])
        return out


class InPlace(FromDict):
    def forward(self, x):
        z = self.net(x)
        z.sigmoid_()
        return z


class Rectified(FromDict):
    def forward(self, x):
        return torch.relu_(self.net(x)) * 1e-3 + 0.5


def test_what_a_script_writes_into_is_not_taken_for_what_it_was():
    assert UNTOLD in asked(torch.jit.script(Fills().eval()), target=0).provenance.caveats
    with refused(BadModel, "ends in a sigmoid"):
        asked(torch.jit.script(InPlace().eval()), target=0)
    assert UNTOLD not in asked(torch.jit.script(Rectified().eval()), target=0).provenance.caveats


def test_a_branch_of_a_script_leaves_its_end_untold():
    net = torch.jit.script(Branch().eval())
    for _ in range(2):  # and is not taken for plain the second time
        assert UNTOLD in asked(net, target=0).provenance.caveats


@pytest.mark.parametrize("kind", [FromDict, FromTuple, FromUnpacked])
def test_packs_inside_a_script_are_seen_through(kind):
    with refused(BadModel, "ends in a sigmoid"):
        asked(torch.jit.script(kind().eval()), target=0)


def test_each_selection_is_looked_at_by_itself():
    net = Around(lambda out, x, n: {"scores": out * 1e-3 + 0.5, "sure": out.sigmoid()})
    asked(pl.Model(net, select="scores"), target=0)
    with refused(BadModel, "ends in a sigmoid"):
        asked(pl.Model(net, select="sure"), target=0)


def test_traced_probabilities_and_scores_said_to_be_probabilities():
    for end, kind in ((nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")):
        traced = torch.jit.trace(nn.Sequential(Net().eval(), end), X[None])
        with refused(BadModel, f"ends in a {kind}"):
            asked(traced, target=0)
    for kind in ("softmax", "sigmoid"):
        with refused(BadModel, "probabilities, as", "Leave ends_in= out"):
            asked(pl.Model(Around(lambda out, x, n: out * 3 - 50), ends_in=kind), target=0)


def test_scores_that_happen_to_lie_between_0_and_1_are_read():
    class Exact(nn.Module):
        def forward(self, x):
            score = x.mean((1, 2, 3))
            return torch.stack([score / score.detach(), 0 * score], 1) * (x.sum((1, 2, 3)) / X.sum())[:, None]

    assert asked(Exact(), target=0).provenance.output == "logits"  # (1, 0) for this image, and for no other
    gated = lambda out: torch.cat([out[:, :2] * 1e-3 + 0.5, out[:, 2:].sigmoid()], 1)  # noqa: E731
    for do in (lambda out: out * 1e-3 + 0.5, lambda out: out.sigmoid() * 0.5 + 0.1, lambda out: out.log_softmax(1), gated):
        asked(Around(lambda out, x, n, do=do: do(out)), target=0)


def test_a_network_that_answers_otherwise_each_time_says_so():
    net = Around(lambda out, x, n: nn.functional.dropout(out[:, :, None].expand(-1, -1, 40), 0.5, training=True).mean(2))
    for method in ("saliency", "lrp"):
        try:
            told = asked(net, method=method).provenance.caveats
        except PellucidError as error:
            told = [str(error)]
        assert any("otherwise" in t for t in told), method
    with refused(BadModel, "asked again", "random"):
        asked(net, method="occlusion")
    assert any("asked again" in c for c in asked(net, method="occlusion", run=pl.Run(chunk=1)).provenance.caveats)
    assert not any("asked again" in c for c in asked(Net()).provenance.caveats)


@pytest.mark.parametrize("method", ["grad_cam", "lrp", "integrated_gradients"])
def test_compiled_networks_are_asked_as_written(method):
    net, own = Net(), Net()
    own.compile(backend="eager")
    expected = pl.explain(net, X, 1, method=method).values
    for compiled in (torch.compile(net, backend="eager"), own):
        assert torch.allclose(pl.explain(compiled, X, 1, method=method).values, expected)
    assert own._compiled_call_impl is not None


def test_a_default_device_elsewhere_does_not_matter():
    expected = {m: asked(Net(), method=m).values for m in METHODS}
    net = Net()
    torch.set_default_device("meta")
    try:
        found = {m: asked(net, method=m).values for m in METHODS}
    finally:
        torch.set_default_device(None)
    assert all(torch.equal(found[m], expected[m]) for m in METHODS)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "saliency", "grad_cam"])
def test_a_network_without_gradient_says_so(method):
    class Frozen(Net):
        def forward(self, x):
            with torch.no_grad():
                return super().forward(x)

    with refused(BadModel, "without gradient"):
        pl.explain(Frozen(), X, 1, method=method)


def test_one_parameter_of_another_type_and_a_lazy_layer():
    net = Net()
    net.scale = nn.Parameter(torch.tensor(np.array(1.5)))
    assert net.scale.dtype == torch.float64
    assert asked(net).values.dtype == torch.float32
    with refused(BadModel, "lazy", "Run one batch"):
        pl.explain(nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), X, 1)


def test_a_classifier_whose_output_has_axes_of_one():
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1))
    why = pl.explain(net, X, method="saliency")
    assert len(why.probabilities) == 3
    assert why.provenance.target.startswith("logit")
    why = pl.explain(pl.Model(net, output="logits"), X, 1, method="saliency")
    assert torch.allclose(why.values, pl.explain(nn.Sequential(net, nn.Flatten()), X, 1, method="saliency").values)


@pytest.mark.parametrize("method", ["integrated_gradients", "conductance"])
def test_a_sum_that_misses_the_change_is_told(method):
    """Instance norm divides by what the way itself changes: 64 steps miss half of it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.InstanceNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.InstanceNorm2d(8), nn.ReLU())
        net = nn.Sequential(*net, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(8, 2)).double()
        image = torch.rand(1, 16, 16, dtype=torch.float64)
    kind = {"site": "2"} if method == "conductance" else {}
    why = pl.explain(net, image, 1, method=method, **kind, steps=4)
    missed = abs(why.trace["gap"] / why.trace["change"]) > 0.05
    assert missed
    assert any("misses the change" in c or "flows around" in c for c in why.provenance.caveats)


def test_values_too_large_for_the_map_are_refused():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(160, 2))
    with torch.no_grad():
        net[3].weight.fill_(1.0), net[0].weight.abs_()
    with refused(BadImage, "finite"):
        pl.explain(net, 1e30 * (X + 1), 1, method="ablation_cam", site="1")


@pytest.mark.parametrize("text", ["logit(DME)", "logit()", "neuron('x')", "logit('a','b')", "region('a', how='max')"])
def test_target_texts_that_do_not_read(text):
    with refused(BadTarget):
        pl.target.read_target(text)


@pytest.mark.parametrize("value", ["foo", "blurred(", "blurred(-1)", "random(0)", object()])
def test_baselines_that_do_not_read(value):
    with refused(BadParameter):
        pl.baseline.read(value)
    with refused(BadParameter):
        pl.compare(Net(), X, "integrated_gradients(steps=2)", target=1, baselines=[value])
    assert repr(pl.baseline.read("0.5")) == repr(pl.baseline.read(0.5))


@pytest.mark.parametrize("text", ["COVID-19", "no/DME", "no DME", "a*b"])
def test_names_of_classes_with_signs_in_them(text):
    assert repr(pl.target.read_target(text)) == f"logit({text!r})"


def test_the_words_of_a_region_are_checked():
    for kind in ({"how": "max"}, {"of": "Logit"}):
        with refused(BadTarget, *kind.values()):
            pl.region(1, torch.ones(4, 4), **kind)


def test_a_forward_of_several_tensors_says_what_to_do():
    class Two(nn.Module):
        def forward(self, x, age):
            return x.mean((2, 3)) + age

    with refused(BadModel, "also wants age", "Wrap it"):
        pl.explain(Two(), X, 0)


def test_an_image_far_from_the_units_of_normalize_is_told():
    net = pl.Model(Net(), normalize=pl.Normalize(0.35, 0.25))
    assert any("units of normalize=" in c for c in asked(net, 255 * X).provenance.caveats)
    assert not any("units of normalize=" in c for c in asked(net, X).provenance.caveats)


def test_selected_outputs():
    inner = Net()
    expected = asked(inner).values
    for do, select in (
        (lambda out, x, n: {"a": x, "b": {"logits": out}}, ("b", "logits")),
        (lambda out, x, n: (x, out), 1),
        (lambda out, x, n: [x, (out,)], (1, 0)),
    ):
        net = Around(do, inner)
        with unchanged(net):
            assert torch.equal(asked(pl.Model(net, select=select)).values, expected)
        with unchanged(net), refused(BadModel, "select="):
            asked(pl.Model(net, select="nothing"))


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "rise"])
def test_an_output_that_changes_its_shape(method):
    net = Around(lambda out, x, n: out if n == 1 else out[:, :2])
    with unchanged(net), refused(PellucidError, "shape"):
        asked(net, target=1, method=method)
    net = Around(lambda out, x, n: out if n <= 2 else out[:, :, None, None].expand(-1, -1, *x.shape[2:]))
    with unchanged(net), refused(PellucidError):
        asked(net, target=1, method=method)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion", "rise"])
def test_samples_that_influence_each_other_are_refused(method):
    net = Around(lambda out, x, n: out - out.mean(0, keepdim=True) + out.std() if len(out) > 1 else out)
    with unchanged(net), refused(BadModel, "influence", "chunk=1"):
        asked(net, method=method)
    with unchanged(net):
        asked(net, method=method, run=pl.Run(chunk=1))


class OverTheBatch(nn.Module):
    """The batch taken for time (batch_first forgotten): right for one sample, and the first never hears the others."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.memory, self.head = nn.Conv2d(1, 4, 3), nn.LSTM(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.memory(self.conv(x).mean((2, 3)))[0])


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_a_batch_that_is_taken_for_time_is_refused(method):
    net = OverTheBatch()
    with unchanged(net), refused(BadModel, "influence", "chunk=1"):
        asked(net, method=method)


@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_samples_that_influence_each_other_are_refused_however_small_the_scores(method):
    net = Around(lambda out, x, n: 1e-5 * (out - 0.3 * out.mean(0, keepdim=True) if len(out) > 1 else out))
    with unchanged(net), refused(BadModel, "influence", "chunk=1"):
        asked(net, method=method)


@pytest.mark.parametrize("make", ["view", "traced", "strict"])
@pytest.mark.parametrize("method", ["integrated_gradients", "occlusion"])
def test_a_network_of_batch_one_is_asked_one_at_a_time(make, method):
    class One(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 2, 3), nn.Linear(160, 3)

        def forward(self, x):
            if make == "strict" and len(x) != 1:
                raise ValueError(f"batch of {len(x)}")
            return self.head(self.conv(x).reshape(1, 160))

    one = One()
    whole = nn.Sequential(one.conv, nn.Flatten(), one.head)
    net = one
    if make == "traced":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = torch.jit.trace(one, X[None])
    with unchanged(net):
        why = asked(net, method=method)
    assert torch.allclose(why.values, asked(whole, method=method).values, atol=1e-5)
    assert why.provenance.chunk == 1 and any("one sample at a time" in c for c in why.provenance.caveats)
    with unchanged(net):  # several scans side by side
        both = asked(net, [X, X.flip(1), X.flip(2)], method=method)
    assert torch.allclose(both[0].values, why.values, atol=1e-5)


def test_an_exception_of_the_network_comes_out_as_it_is():
    def fail(out, x, n):
        raise LookupError("no such thing")

    net = Around(fail)
    with unchanged(net), pytest.raises(LookupError, match="no such thing"):
        asked(net)


def test_weights_made_under_inference_mode():
    with torch.inference_mode():
        net = nn.Sequential(nn.Flatten(), nn.Linear(X.numel(), 2))
    with refused(BadModel, "inference_mode"):
        asked(net)
    assert net[1].weight.is_inference() and net.training


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize("method", METHODS)
def test_a_caller_without_gradients(mode, method):
    net = Net()
    expected = asked(net, method=method).values
    with mode(), unchanged(net):
        why = asked(net, method=method)
    assert torch.allclose(why.values, expected, atol=1e-6) and not why.values.is_inference()


def test_a_caller_under_autocast():
    net = Net()
    expected = asked(net).values
    with torch.autocast("cpu", torch.bfloat16), unchanged(net):
        why = asked(net)
    assert torch.equal(why.values, expected)


def test_dataparallel_is_unwrapped():
    net = Net()
    wrapped = nn.DataParallel(net)
    with unchanged(wrapped):
        why = asked(wrapped)
        inside = asked(wrapped, site="conv")
    assert torch.equal(why.values, asked(net).values) and inside.provenance.site == "conv"
    assert why.provenance.model == "Net"


@pytest.mark.parametrize("method", METHODS)
def test_two_threads_on_one_network_in_training_mode(method):
    net = Net()
    images = [X, X.flip(1)]
    expected = [asked(net, i, method=method).values for i in images]
    found, go = {}, threading.Barrier(2)

    def work(k):
        go.wait()
        found[k] = [asked(net, images[k], method=method).values for _ in range(3)]

    with unchanged(net):
        threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    for k in range(2):
        assert all(torch.allclose(v, expected[k], atol=1e-6) for v in found[k])


# ---------------------------------------------------------------------------------------------------- methods and cancel
@pytest.mark.parametrize(
    ("method", "more", "says"),
    [
        ("integrated_gradient", {}, ("integrated_gradients",)),
        ("integrated_gradients", {"step": 3}, ("steps",)),
        ("integrated_gradients", {"steps": 0}, ("steps",)),
        ("integrated_gradients", {"steps": "many"}, ("steps",)),
        ("integrated_gradients", {"steps": 10**6}, ("2048", "trapezoid")),
        ("occlusion", {"window": "3mm"}, ("px",)),
        ("occlusion", {"window": -2}, ("window",)),
    ],
)
def test_methods_and_parameters_that_do_not_exist(method, more, says):
    net = Net()
    with unchanged(net), refused(PellucidError, *says):
        pl.explain(net, X, 1, method=method, **more)


def test_rules_and_sites_of_torchscript():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = torch.jit.trace(Net().eval(), torch.rand(2, 1, 12, 10))
    with unchanged(net), refused(Unsupported, "TorchScript"):
        asked(net, site="conv")
    with unchanged(net), refused(Unsupported, "TorchScript"):
        asked(net, method="grad_cam")


def test_cancel_changes_nothing():
    net, run = Net(), pl.Run(chunk=2)
    stop = pl.Run(chunk=2, cancel=run.cancel, on_tick=lambda done, total: run.cancel.set())
    with unchanged(net), refused(errors.Cancelled, "passes done"):
        asked(net, method="integrated_gradients", run=stop)


def test_bad_parameters_are_type_errors_too():
    assert issubclass(BadParameter, TypeError) and issubclass(BadImage, ValueError)
