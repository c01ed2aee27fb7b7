"""Influence against what it approximates: leave-one-out retraining, closed forms, dense Hessians; and networks that must be refused."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import pellucid as pl
from pellucid.errors import BadFile, BadImage, BadModel, BadParameter, Cancelled, Unsupported
from pellucid.exemplars import fit_head, head_influence, head_inputs, influence, influence_by_cg, label_errors, leave_one_out, tracin
from pellucid.run import Run


def cloud(n=60, d=6, classes=3, seed=0, spread=1.0):
    chance = np.random.default_rng(seed)
    y = chance.integers(0, classes, n)
    return chance.normal(0, 1.5, (classes, d))[y] * spread + chance.normal(0, 1, (n, d)), [f"c{v}" for v in y]


def net(dims=2, seed=0, classes=3):
    torch.manual_seed(seed)
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    return nn.Sequential(conv(1, 5, 3), nn.Tanh(), pool(2), nn.Flatten(), nn.Linear(5 * 2**dims, classes)).eval()


def scans(dims=2, n=12, seed=1, side=8):
    torch.manual_seed(seed)
    return [torch.rand(1, *[side] * dims) + 0.3 * (i % 3) for i in range(n)]


def test_the_head_is_that_of_scikit_learn():
    linear = pytest.importorskip("sklearn.linear_model")
    x, y = cloud()
    head = fit_head(x, y, penalty=0.02)
    peer = linear.LogisticRegression(C=1 / (0.02 * len(x)), fit_intercept=False, tol=1e-10, max_iter=5000).fit(head.rows, y)
    assert np.allclose(np.exp(head.log_probabilities(head.rows)), peer.predict_proba(head.rows), atol=1e-5)
    assert np.abs(head.gradients.sum(0) + len(x) * 0.02 * head.weights.ravel()).max() < 1e-7


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("penalty", [1e-3, 1e-1])
def test_influence_ranks_as_leave_one_out_retraining(classes, penalty):
    stats = pytest.importorskip("scipy.stats")
    x, y = cloud(80, classes=classes, spread=0.5)
    head = fit_head(x, y, penalty=penalty)
    for query in np.random.default_rng(5).normal(0, 1, (3, x.shape[1])):
        fast, slow = head_influence(head, query, "c1"), leave_one_out(head, query, "c1", range(80))
        assert stats.spearmanr(fast, slow).statistic >= 0.95
        assert (np.sign(fast) == np.sign(slow))[np.abs(slow) > np.abs(slow).mean()].mean() > 0.95


def test_leave_one_out_is_a_head_fitted_without_it():
    x, y = cloud(20, classes=2)
    head = fit_head(x, y, penalty=0.05)
    kept = np.delete(np.arange(20), 7)
    peer = pytest.importorskip("sklearn.linear_model").LogisticRegression(C=1 / (0.05 * 20), fit_intercept=False, tol=1e-12, max_iter=9000)
    peer.fit(head.rows[kept], np.array(y)[kept])
    query = x[3]
    before = head.log_probabilities(head.standard(query[None]))[0, 1]
    # softmax over two classes with a penalty on both halves of the weights is the logistic regression of their difference, penalized half as much
    two = fit_head(x, y, penalty=0.05)
    found = leave_one_out(two, query, "c1", [7])[0]
    peer.C *= 2
    peer.fit(head.rows[kept], np.array(y)[kept])
    after = peer.predict_log_proba(head.standard(query[None]))[0, 1]
    assert found == pytest.approx(before - after, abs=1e-5) and found != 0


def test_the_sign():
    """A copy of the query with the target's label speaks for it, one with another label against it, and the removal of either says so."""
    x, y = cloud(150, classes=2)
    query = np.zeros(x.shape[1])
    x, y = np.concatenate([x, query[None] + 0.01, query[None] - 0.01]), [*y, "c1", "c0"]
    head = fit_head(x, y, penalty=0.1)
    values = head_influence(head, query, "c1")
    assert values[150] > 0 > values[151]
    slow = leave_one_out(head, query, "c1", [150, 151])
    assert slow[0] > 0 > slow[1] and np.allclose(values[150:], slow, rtol=0.35)


@pytest.mark.parametrize("dims", [2, 3])
def test_influence_through_the_last_layer_of_a_network(dims, tmp_path):
    module, images = net(dims).train(), scans(dims)
    labels = [i % 3 for i in range(12)]
    ticks = []
    found = influence(module, images, labels, images[0], check=12, run=Run(on_tick=lambda *a: ticks.append(a)))
    assert isinstance(found, pl.Explanation) and found.target in "012" and 0 < found.probability < 1
    rows, _, name = head_inputs(pl.Model(module), images)
    inner = module[:4].eval()
    with torch.no_grad():
        assert np.allclose(rows, inner(torch.stack(images)).numpy(), atol=1e-6) and name == "4"
    head = fit_head(rows, labels)
    assert np.allclose(found.values, head_influence(head, rows[0], found.target), rtol=1e-4, atol=1e-9)
    measured = found.evidence["retraining_agreement"]
    assert measured.value > 0.9 and measured.reference == 0.95 and (measured.status == "pass") == (measured.value >= 0.95)
    assert list(found.values[list(found.proponents(3))]) == sorted(found.values, reverse=True)[:3]
    assert list(found.values[list(found.opponents(3))]) == sorted(found.values)[:3]
    assert ticks[12] == (13, 13) and ticks[-1] == (12, 12) and all(p.requires_grad for p in module.parameters())
    told = json.loads(found.save(tmp_path / "i.json").read_text())
    assert told["values"] == found.values.tolist() and "training=12" in told["provenance"]["method"]
    assert len(found.table(2)) == 4
    with pytest.raises(BadParameter, match="json"):
        found.save(tmp_path / "i.csv")


def test_wrong_labels_come_first():
    x, y = cloud(200, classes=3, seed=2)
    truth, wrong = list(y), np.random.default_rng(0).choice(200, 20, replace=False)
    for i in wrong:
        y[i] = f"c{(int(y[i][1]) + 1) % 3}"
    found = label_errors(x, y)
    assert len(set(found.order[:20]) & set(wrong)) / 20 >= 0.8
    right = [found.suggested[i] == truth[i] for i in wrong]
    assert np.mean(right) >= 0.8 and found.table(5)["place"] == found.order[:5]
    assert (found.strength > 0).all()
    head = fit_head(x, y, penalty=1e-2)
    assert found.strength[3] == pytest.approx(head_influence(head, x[3], y[3])[3])


def test_tracin_of_a_linear_model_in_closed_form(tmp_path):
    """Gradient of the cross-entropy of W x + b: (p - y) x^T and p - y."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(9, 3)).eval()
    images, labels = [torch.rand(1, 3, 3) for _ in range(5)], [0, 1, 2, 1, 0]
    states = [{k: v + i * 0.1 * torch.randn_like(v) for k, v in module.state_dict().items()} for i in range(3)]
    torch.save(states[2], tmp_path / "last.pt")
    before = {k: v.clone() for k, v in module.state_dict().items()}
    rates = [0.1, 0.2, 0.4]
    found = tracin(module, images, labels, images[1], 2, checkpoints=[states[0], states[1], tmp_path / "last.pt"], rates=rates)
    expected = np.zeros(5)
    for rate, state in zip(rates, states, strict=True):
        w, b = (v.double().numpy() for v in state.values())

        def away(x, y, w=w, b=b):
            z = w @ x + b
            return np.exp(z) / np.exp(z).sum() - np.eye(3)[y]

        q = images[1].double().flatten().numpy()
        for i, (x, y) in enumerate(zip(images, labels, strict=True)):
            x = x.double().flatten().numpy()
            expected[i] += rate * (away(q, 2) @ away(x, y)) * (q @ x + 1)
    assert np.allclose(found.values, expected, rtol=1e-9)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert found.values[2] > 0, "an image of the target's class"
    last = tracin(module, images, labels, images[1], 2, checkpoints=states[:1], rates=0.1, layers="last")
    full = tracin(module, images, labels, images[1], 2, checkpoints=states[:1], rates=0.1)
    assert np.allclose(last.values, full.values)


def test_tracin_follows_a_step_of_training():
    """What one step of gradient descent on one image adds to the target's log probability, to first order."""
    module, images = net(seed=3), scans()
    for i, label in ((2, 0), (5, 1)):
        twin = net(seed=3).double()
        x, q = images[i].double()[None], images[0].double()[None]
        before = twin(q).log_softmax(1)[0, 0].item()
        torch.nn.functional.cross_entropy(twin(x), torch.tensor([label])).backward()
        with torch.no_grad():
            for p in twin.parameters():
                p -= 1e-4 * p.grad
        moved = twin(q).log_softmax(1)[0, 0].item() - before
        found = tracin(module, [images[i]], [label], images[0], 0, checkpoints=[module.state_dict()], rates=1e-4)
        assert found.values[0] == pytest.approx(moved, rel=1e-2)


def dense(module, images, labels):
    """Hessian of the mean loss and gradients, by torch.autograd.functional on all weights at once."""
    module = module.double()
    names, tensors = zip(*module.named_parameters(), strict=True)
    sizes = [t.numel() for t in tensors]
    x, y = torch.stack(images).double(), torch.tensor(labels)

    def mean(flat, xs=x, ys=y):
        held = {n: p.view_as(t) for n, p, t in zip(names, flat.split(sizes), tensors, strict=True)}
        return torch.nn.functional.cross_entropy(functional_call(module, held, (xs,)), ys)

    flat = torch.cat([t.detach().flatten() for t in tensors])
    h = torch.autograd.functional.hessian(mean, flat)
    each = torch.stack(
        [torch.autograd.functional.jacobian(lambda f, i=i: mean(f, x[i : i + 1], y[i : i + 1]), flat) for i in range(len(x))]
    )
    return h, each, lambda i, target: torch.autograd.functional.jacobian(lambda f: mean(f, x[i : i + 1], torch.tensor([target])), flat)


@pytest.mark.parametrize("dims", [2, 3])
def test_conjugate_gradients_are_the_dense_solution(dims):
    module, images = net(dims), scans(dims, 20, side=5)
    labels = [i % 3 for i in range(20)]
    found = influence_by_cg(module, images, labels, images[4], 2, damping=2.0, tolerance=1e-10)
    h, each, slope = dense(net(dims), images, labels)
    solved = torch.linalg.solve(h + 2 * torch.eye(len(h), dtype=torch.float64), slope(4, 2))
    expected = (each @ solved / 20).numpy()
    assert np.allclose(found.values, expected, rtol=1e-6, atol=1e-10)
    series = {"damping": 2.0, "solver": "lissa", "steps": 40, "scale": 8.0, "repeats": 3}
    some = influence_by_cg(module, images, labels, images[4], 2, **series)
    assert np.corrcoef(some.values, expected)[0, 1] > 0.98
    assert np.array_equal(some.values, influence_by_cg(module, images, labels, images[4], 2, **series).values)


def test_a_linear_network_has_the_same_influence_by_cg_as_by_its_head():
    x, y = cloud(30, 4, classes=2)
    head = fit_head(x, y, penalty=0.05)
    module = nn.Sequential(nn.Flatten(), nn.Linear(5, 2, bias=False))
    with torch.no_grad():
        module[1].weight.copy_(torch.from_numpy(head.weights))
    module = module.double()
    images = [torch.from_numpy(r).reshape(1, 1, 5) for r in head.rows]
    found = influence_by_cg(module, images, [int(v[1]) for v in y], images[3], 1, damping=0.05, tolerance=1e-10)
    assert np.allclose(found.values, head_influence(head, x[3], "c1"), rtol=1e-5)


class Detached(torch.autograd.Function):
    """A square whose backward pass forgets that it depends on its input: gradients are right, curvature is lost in silence."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x.detach() * g.detach()


class Once(Detached):
    """As torch offers it for such functions: a second derivative raises."""

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return 2 * x * g


class Wrapped(nn.Module):
    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how, self.conv, self.unused, self.fc = how, nn.Conv2d(1, 3, 3), nn.Linear(2, 2), nn.Linear(3, 2)

    def forward(self, x):
        z = self.conv(x)
        z = self.how(z) if self.how is not None else z
        return self.fc(z.mean((2, 3)))


def test_layers_that_cannot_be_asked_are_refused_and_never_left_out():
    images, layers = scans(n=4), ("conv", "fc")
    given = {"training": images, "labels": [0, 1, 0, 1], "image": images[0], "target": 1}
    with pytest.raises(Unsupported, match=r"unused.weight.*without a gradient"):
        influence_by_cg(Wrapped(None), **given)
    with pytest.raises(Unsupported, match=r"unused.weight"):
        tracin(Wrapped(None), **given, checkpoints=[Wrapped(None).state_dict()], rates=1)
    assert influence_by_cg(Wrapped(torch.tanh), **given, layers=layers, damping=1.0).values.any()
    with pytest.raises(Unsupported, match="second derivative"):
        influence_by_cg(Wrapped(Detached.apply), **given, layers=layers)
    with pytest.raises(Unsupported, match="twice|second derivative"):
        influence_by_cg(Wrapped(Once.apply), **given, layers=layers)
    with pytest.raises(Unsupported, match=r"conv.weight.*without a gradient"):
        influence_by_cg(Wrapped(lambda z: z.detach()), **given, layers=layers)
    with pytest.raises(Unsupported, match=r"differentiated twice.*flash"):
        influence_by_cg(Wrapped(lambda z: torch.nn.functional.scaled_dot_product_attention(z, z, z)), **given, layers=layers)
    with pytest.raises(Unsupported, match="TorchScript"):
        influence_by_cg(torch.jit.trace(net(), torch.rand(1, 1, 8, 8)), **given)
    with pytest.raises(Unsupported, match="positive"):
        influence_by_cg(net(seed=4), **(given | {"labels": [2, 2, 0, 0]}), damping=0.0)
    with pytest.raises(Unsupported, match="within 1 steps"):
        influence_by_cg(net(), **given, steps=1, damping=0.5, tolerance=1e-12)
    with pytest.raises(Unsupported, match="grows"):
        influence_by_cg(net(), **given, solver="lissa", scale=1e-4, steps=300)


def test_what_influence_refuses():
    x, y = cloud(10, classes=2)
    module, images = net(), scans(n=4)
    with pytest.raises(BadParameter, match="two classes"):
        fit_head(x, ["a"] * 10)
    with pytest.raises(BadParameter, match="labels"):
        fit_head(x, y[:3])
    with pytest.raises(BadImage, match="NaN"):
        fit_head(np.full((2, 2), np.nan), "ab")
    for penalty in (0, -1, math.nan):
        with pytest.raises(BadParameter, match="penalty"):
            fit_head(x, y, penalty=penalty)
    with pytest.raises(Unsupported, match="6000"):
        fit_head(np.zeros((2, 4000)), "ab")
    with pytest.raises(BadParameter, match="a class of the training"):
        head_influence(fit_head(x, y), x[0], "c9")
    with pytest.raises(BadParameter, match="features"):
        head_influence(fit_head(x, y), x[0][:2], "c1")
    for check in (2, 99, True, -1):
        with pytest.raises(BadParameter, match="check"):
            influence(module, images, [0, 1, 0, 1], images[0], check=check)
    with pytest.raises(BadParameter, match="at least one image"):
        head_inputs(pl.Model(module), [])
    with pytest.raises(BadParameter, match="a layer of the network"):
        head_inputs(pl.Model(module), images, layer="fc")
    with pytest.raises(Unsupported, match="without one"):
        head_inputs(pl.Model(nn.Sequential(nn.Conv2d(1, 2, 8), nn.Flatten())), images)
    with pytest.raises(Unsupported, match="not the network's"):
        head_inputs(pl.Model(nn.Sequential(net(), nn.ReLU())), images)
    given = {"training": images, "labels": [0, 1, 0, 1], "image": images[0], "target": 1}
    state = module.state_dict()
    for change, said in (
        ({"labels": [0]}, "a label each"), ({"labels": [0, 1, 0, 9.5]}, None), ({"target": "sick"}, "a label that is a class"), ({"training": []}, "label each"),
    ):  # fmt: skip
        if said is not None:
            with pytest.raises(BadParameter, match=said):
                influence_by_cg(module, **(given | change))
    for more in ({"damping": -1.0}, {"solver": "newton"}, {"steps": 0}, {"scale": 0.0}, {"layers": "head"}, {"loss": lambda out, y: out}):
        with pytest.raises(BadParameter):
            influence_by_cg(module, **given, **more)
    with pytest.raises(BadParameter, match="with a rate each"):
        tracin(module, **given, checkpoints=[state], rates=[1, 2])
    with pytest.raises(BadFile, match="no such file"):
        tracin(module, **given, checkpoints=["nowhere.pt"], rates=1)
    with pytest.raises(BadFile, match="of this network"):
        tracin(module, **given, checkpoints=[{"a": torch.zeros(1)}], rates=1)
    with pytest.raises((BadModel, BadParameter)):
        influence_by_cg(nn.Sequential(nn.Conv2d(1, 3, 3)), **given)
    run = Run()
    run.cancel.set()
    for call in (lambda: influence(module, images, [0, 1, 0, 1], images[0], run=run), lambda: influence_by_cg(module, **given, run=run),
                 lambda: tracin(module, **given, checkpoints=[state], rates=1, run=run)):  # fmt: skip
        with pytest.raises(Cancelled):
            call()


def test_no_grad_and_inference_mode_of_the_caller_change_nothing():
    module, images = net(), scans(n=6)
    given = {"training": images, "labels": [0, 1, 2, 0, 1, 2], "image": images[0], "target": 1, "damping": 0.6}
    plain = influence_by_cg(module, **given).values
    with torch.inference_mode():
        assert np.allclose(influence_by_cg(module, **given).values, plain)
    with torch.no_grad():
        assert np.allclose(influence_by_cg(module, **given).values, plain)
