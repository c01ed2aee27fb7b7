"""The contract that every method keeps. ``check_method(m)`` holds a method from outside to the same."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.errors import Cancelled
from pellucid.explain import explain
from pellucid.explanation import Map
from pellucid.method import Asks, Gives, Method, Where, read_method
from pellucid.run import Run

CLASSES = 3
SPACE = {2: (12, 10), 3: (10, 9, 8)}


def small_net(dims: int, seed: int = 0, depth_one: bool = False) -> nn.Module:
    """A small network with what breaks methods: in-place and reused activations, BatchNorm in training mode, a residual sum."""
    return _Small(dims, seed, depth_one).train()


class _Small(nn.Module):
    def __init__(self, dims: int, seed: int, depth_one: bool = False) -> None:
        super().__init__()
        conv, norm, pool = (
            (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.BatchNorm3d, nn.AdaptiveAvgPool3d)
        )
        kernel: Any = (3, 3, 1) if depth_one else 3
        pad: Any = (1, 1, 0) if depth_one else 1
        self.first = conv(2, 6, kernel, padding=pad, dtype=torch.float64)
        self.norm = norm(6, dtype=torch.float64)
        self.act = nn.ReLU(inplace=True)
        self.second = conv(6, 6, kernel, padding=pad, dtype=torch.float64)
        self.pool = pool(1)
        self.head = nn.Linear(6, CLASSES, dtype=torch.float64)
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=g, dtype=p.dtype) * (0.5 if p.ndim > 1 else 0.3))
            for b in self.buffers():
                if b.is_floating_point():
                    b.copy_(torch.rand(b.shape, generator=g, dtype=b.dtype) * 0.2 + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        z = self.act(self.norm(self.first(x)))
        z = z + self.act(self.second(z))
        return self.head(self.pool(z).flatten(1))


def small_transformer(dims: int, seed: int = 0, depth_one: bool = False) -> nn.Module:
    """Two layers of attention among the tokens of patches, without a class token, for methods that ask transformers only."""
    return _Attending(dims, seed, depth_one).train()


class _Attending(nn.Module):
    def __init__(self, dims: int, seed: int, depth_one: bool) -> None:
        super().__init__()
        patch: Any = (2, 2, 1) if depth_one else 2
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.patches = conv(2, 8, patch, stride=patch, dtype=torch.float64)
            self.layers = nn.Sequential(
                *(nn.TransformerEncoderLayer(8, 2, 12, 0.1, batch_first=True, dtype=torch.float64) for _ in range(2))
            )
            self.head = nn.Linear(8, CLASSES, dtype=torch.float64)
            for layer in self.layers:
                layer.self_attn.in_proj_weight.data.mul_(2.0)  # type: ignore[operator, union-attr]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(self.patches(x).flatten(2).transpose(1, 2)).mean(1))


def net_for(m: Method[Any], dims: int, depth_one: bool = False) -> nn.Module:
    """The small network that a method is held to."""
    return (small_transformer if m.facts.needs_attention else small_net)(dims, depth_one=depth_one)


def small_image(dims: int, seed: int = 1) -> Tensor:
    """An image for ``small_net``, (2, *space), float64 in [0, 1]."""
    return torch.rand((2, *SPACE[dims]), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def state_of(net: nn.Module) -> tuple[Any, ...]:
    """Everything of a network (and of the world) that an explanation must leave as it was."""
    return (
        [m.training for m in net.modules()],
        [getattr(m, "inplace", None) for m in net.modules()],
        [(n, id(p), p._version, p.requires_grad, p.grad is None) for n, p in net.named_parameters()],
        [(n, id(b), b.clone().tolist()) for n, b in net.named_buffers()],
        [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()],
        torch.random.get_rng_state().tolist(),
        np.random.get_state()[1].tolist(),  # type: ignore[index, union-attr]  # noqa: NPY002
        torch.is_grad_enabled(),
    )


def _ask(m: Method[Any], dims: int, target: Any = 1, net: nn.Module | None = None, x: Tensor | None = None, run: Run | None = None) -> Map:
    net = net_for(m, dims) if net is None else net
    found: Map = explain(net, small_image(dims) if x is None else x, target, method=m, run=run)
    return found


def leaves_all_as_it_was(m: Method[Any], dims: int) -> None:
    """Model, input and random states are untouched after success."""
    net, x = net_for(m, dims), small_image(dims).requires_grad_()
    before, kept = state_of(net), x.detach().clone()
    _ask(m, dims, net=net, x=x)
    assert state_of(net) == before, f"{m.name} changed the network or a global random state"
    assert torch.equal(x.detach(), kept) and x.requires_grad and x.grad is None, f"{m.name} changed its input"


def is_clean_after_a_crash(m: Method[Any], dims: int) -> None:
    """A target that fails midway leaves nothing behind."""
    net, calls = net_for(m, dims), []
    before = state_of(net)

    def breaks(out: Tensor) -> Tensor:
        calls.append(1)
        raise ArithmeticError("the target failed")

    try:
        _ask(m, dims, breaks, net=net)
    except ArithmeticError:
        pass
    else:
        raise AssertionError(f"{m.name} swallowed an error of the target")
    assert calls, f"{m.name} never asked the target"
    assert state_of(net) == before, f"{m.name} left something behind after a crash"


def hears_cancel(m: Method[Any], dims: int) -> None:
    """Cancel is heard, and leaves nothing behind."""
    net = net_for(m, dims)
    before = state_of(net)
    run = Run(chunk=2)
    run.cancel.set()
    try:
        _ask(m, dims, net=net, run=run)
    except Cancelled:
        pass
    else:
        raise AssertionError(f"{m.name} did not hear cancel")
    assert state_of(net) == before, f"{m.name} left something behind after cancel"


def two_threads_agree(m: Method[Any], dims: int) -> None:
    """Two explanations of one train-mode network at the same time give what one gives, and leave it as it was."""
    net = net_for(m, dims)
    before, alone = state_of(net)[:5], _ask(m, dims, net=net).values
    found: list[Tensor] = []
    threads = [threading.Thread(target=lambda: found.append(_ask(m, dims, net=net).values)) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 2, f"{m.name} failed in a thread"
    assert all(torch.allclose(f, alone, atol=1e-9) for f in found), f"{m.name} answers otherwise beside another thread"
    assert state_of(net)[:5] == before, f"{m.name} left something behind after two threads"


def chunk_does_not_matter(m: Method[Any], dims: int) -> None:
    """The same map for a chunk of 1, of 64, and as planned."""
    one, many, planned = (_ask(m, dims, run=Run(chunk=c)).values for c in (1, 64, None))
    scale = float(one.abs().max())
    assert torch.allclose(one, many, atol=1e-7 * scale), f"{m.name}: the chunk changes the answer"
    assert torch.allclose(one, planned, atol=1e-7 * scale), f"{m.name}: the planned chunk changes the answer"


def costs_what_it_declares(m: Method[Any], dims: int) -> None:
    """Counted passes are the declared ones, or at most those."""
    why = _ask(m, dims)
    bound = m.on(why.image.grid)
    shape = tuple(why.image.values.shape)
    if m.facts.where is Where.FEATURES:  # what is explained is the activation
        shape = tuple(explain(net_for(m, dims), why.image, 1, method="saliency", site=why.provenance.site).values.shape)
    cost = bound.cost(shape, why.grid)
    got = (why.provenance.forward, why.provenance.backward)
    if cost.at_most:
        assert got[0] <= cost.forward and got[1] <= cost.backward, f"{m.name} took {got} passes, declares at most {cost}"
    else:
        assert got == (cost.forward, cost.backward), f"{m.name} took {got} passes, declares {cost}"


def sums_to_the_change(m: Method[Any], dims: int) -> None:
    """COMPLETE: the sum is s(x) - s(start) within 2 %, and the trace says the gap."""
    if not m.facts.gives & Gives.COMPLETE:
        return
    why = _ask(m, dims)
    change = why.trace["change"]
    assert abs(why.total - change) <= 0.02 * abs(change) + 1e-9, f"{m.name}: sum {why.total}, change {change}"
    assert abs(why.trace["gap"] - (why.total - change)) <= 1e-6 * (1 + abs(change)), f"{m.name}: the trace tells another gap"


def says_something(m: Method[Any], dims: int) -> None:
    """The map is finite, neither zero nor constant, on its own grid, and another one for another target (unless declared otherwise)."""
    a, b = _ask(m, dims, 0), _ask(m, dims, 1)
    for why in (a, b):
        assert bool(torch.isfinite(why.values).all()), f"{m.name} gives NaN or infinity"
        assert tuple(why.values.shape[1:]) == why.grid.shape, f"{m.name}: values and grid differ in shape"
    moving = [w for w in (a, b) if float(w.values.max() - w.values.min()) > 1e-12]
    assert moving, f"{m.name} gives a constant map for both targets"
    same = torch.allclose(a.values, b.values)
    told = "gives one map for two targets" if same else "gives two maps for two targets"
    assert same != m.facts.hears_target, f"{m.name} {told}, and declares hears_target={m.facts.hears_target}"


def is_seeded(m: Method[Any], dims: int) -> None:
    """One seed, one map; a random method gives another for another seed, any other method the same."""
    first, again, other = (_ask(m, dims, run=Run(seed=s)).values for s in (3, 3, 4))
    assert torch.equal(first, again), f"{m.name}: one seed gave two maps"
    random = m.facts.random
    assert torch.equal(first, other) != random, f"{m.name} declares random={random}, and does not keep to it"


def turns_with_the_image(m: Method[Any], dims: int) -> None:
    """Flipping the image and the network flips the map."""
    if m.facts.random or m.facts.where is Where.FEATURES:
        return  # a draw does not flip; a hidden site lies behind the flip

    class Flipped(nn.Module):
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x.flip(-1))

    net, x = net_for(m, dims), small_image(dims)
    cut = _pieces(SPACE[dims])
    straight = _ask(_cut_by(m, cut), dims, net=net, x=x).values
    turned = _ask(_cut_by(m, cut.flip(-1)), dims, net=Flipped(net), x=x.flip(-1)).values.flip(-1)
    assert torch.allclose(straight, turned, atol=1e-8 * float(straight.abs().max())), f"{m.name} prefers one side"


def repeats_in_depth(m: Method[Any], dims: int) -> None:
    """A slice repeated in depth, before a network that looks at slices alone, gives the 2D map, spread over the depth."""
    if dims == 3 or m.facts.random or not m.gradients or m.facts.space != {2, 3}:
        return  # windows and masks of methods that only ask for scores reach through the depth
    if sum(isinstance(p, Method) for p in m.params.values()) > 1:
        return  # a product of maps is no sum over the depth
    flat, deep = net_for(m, 2), net_for(m, 3, depth_one=True)
    with torch.no_grad():
        for a, b in zip(flat.state_dict().values(), deep.state_dict().values(), strict=True):
            b.copy_(a.view_as(b))
    x = small_image(2)
    bound = m(axes=[0, 1]) if "axes" in m.params else m
    in_plane = _ask(bound, 2, net=flat, x=x).values
    bound = bound(k=3 * m.params["k"]) if "k" in m.params else bound  # each of the k strongest units is there three times
    volume = _ask(bound, 3, net=deep, x=x[..., None].expand(*x.shape, 3)).values
    assert torch.allclose(volume.sum(-1), in_plane, atol=1e-6 * float(in_plane.abs().max())), f"{m.name}: depth changes the map"


def _pieces(space: tuple[int, ...]) -> Tensor:
    """Labels of unequal pieces: superpixels of an image and of its mirror image need not be alike."""
    along = [(torch.arange(n) > n // 3).long() + (torch.arange(n) > n // 2).long() for n in space]
    labels = torch.zeros(space, dtype=torch.int64)
    for axis, part in enumerate(along):
        labels = labels * 3 + part.view([-1 if a == axis else 1 for a in range(len(space))])
    return labels


def _cut_by(m: Method[Any], labels: Tensor) -> Method[Any]:
    """The method with these segments, where it takes any."""
    return m(segments=labels) if "segments" in m.params else m


def reads_back(m: Method[Any], dims: int) -> None:
    """The repr is exact: reading it gives the same method."""
    assert read_method(repr(m)) == m, f"{m.name}: {m!r} does not read back"


def is_documented(m: Method[Any], dims: int) -> None:
    """The docstring has one plain sentence, its traps, its source and an example, within 30 lines, and names every parameter."""
    doc = inspect.cleandoc(m.fn.__doc__ or "")
    lines = doc.splitlines()
    assert lines and lines[0].endswith("."), f"{m.name}: the first line is one plain sentence"
    for part in ("Misleads when:", "Source:", ">>>"):
        assert part in doc, f"{m.name}: the docstring lacks {part!r}"
    assert len(lines) <= 30, f"{m.name}: the docstring has {len(lines)} lines, 30 at most"
    for name in m.params:
        assert f"{name}:" in doc, f"{m.name}: the docstring does not explain {name!r}"


CHECKS: dict[str, Callable[[Method[Any], int], None]] = {
    f.__name__: f
    for f in (
        leaves_all_as_it_was,
        is_clean_after_a_crash,
        hears_cancel,
        two_threads_agree,
        chunk_does_not_matter,
        costs_what_it_declares,
        sums_to_the_change,
        says_something,
        is_seeded,
        turns_with_the_image,
        repeats_in_depth,
        reads_back,
        is_documented,
    )
}


def check_method(m: Method[Any] | str) -> None:
    """Hold a method to the contract, in every dimension that it declares.

    Raises:
        AssertionError: naming the method and the promise that it breaks.
    """
    found = read_method(m)
    assert found.facts.asks in Asks, f"{found.name} declares what it asks"
    for dims in sorted(found.facts.space):
        for check in CHECKS.values():
            check(found, dims)
