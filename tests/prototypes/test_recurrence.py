"""Recurrent layers written out: the same numbers, the same weights, and every rule exact on them."""

from __future__ import annotations

import copy
import itertools
import pickle

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadImage, BadModel, BadParameter, NoRule, Unsupported

DOUBLE = torch.float64
KINDS = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
FAMILY = [
    ("LSTM", {"proj_size": 3}),
    ("LSTM", {}),
    ("GRU", {}),
    ("RNN", {}),
    ("RNN", {"nonlinearity": "relu"}),
]


class Layer(nn.Module):
    """Sequences (n, c, t) to class scores by a fused layer; ``learned``: it starts from states that were learned."""

    def __init__(self, kind: str, *, learned: bool = False, seed: int = 0, **more: object) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.memory = KINDS[kind](2, 5, batch_first=True, **more)
        out = 5 * (2 if more.get("bidirectional") else 1)
        self.head = nn.Linear(more.get("proj_size", out), 3)
        self.start = nn.Parameter(torch.randn(1, 1, 5)) if learned else None
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        start = None if self.start is None else self.start.expand(-1, len(x), -1).contiguous()
        if start is not None and isinstance(self.memory, nn.LSTM):
            start = (start, start / 2)
        z = self.memory(x.transpose(1, 2), start)[0]
        return self.head(z.mean(1))


class Loop(nn.Module):
    """A cell and a loop in Python."""

    def __init__(self, kind: type[nn.Module], **more: object) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.cell, self.head = kind(2, 5, **more), nn.Linear(5, 3)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for one in x.unbind(2):
            state = self.cell(one, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Mine(nn.LSTM):
    """Somebody's own subclass, which calls what it inherits."""

    def forward(self, x: Tensor, start: object = None) -> tuple[Tensor, object]:
        out, end = super().forward(2 * x, start)
        return out.tanh(), end


def course(t: int = 9, seed: int = 3) -> pl.Image:
    return pl.signal(torch.randn(2, t, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE), step=0.5)


def nets() -> dict[str, nn.Module]:
    many = {f"{k} {i}": Layer(k, **more) for i, (k, more) in enumerate(FAMILY)}
    more = {
        "deep": Layer("LSTM", num_layers=2, bidirectional=True),
        "no biases": Layer("GRU", bias=False),
        "learned LSTM": Layer("LSTM", learned=True),
        "learned GRU": Layer("GRU", learned=True),
        "LSTMCell": Loop(nn.LSTMCell),
        "GRUCell": Loop(nn.GRUCell),
        "RNNCell": Loop(nn.RNNCell, nonlinearity="relu"),
    }
    mine = Layer("LSTM")
    mine.memory = Mine(2, 5, batch_first=True).double()
    return {**many, **more, "subclass": mine}


def leaves(value: object) -> list[Tensor]:
    return [value] if isinstance(value, Tensor) else [t for part in value for t in leaves(part)]  # type: ignore[union-attr]


class Given(nn.Module):
    """A layer that is given a start; all that it returns."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, start: object = None) -> object:
        return self.layer(x, start)


@pytest.mark.parametrize(("kind", "more"), FAMILY)
def test_every_layer_gives_what_it_gave(kind, more):
    g = torch.Generator().manual_seed(0)
    for layers, both, first, bias in itertools.product((1, 2), (False, True), (False, True), (False, True)):
        torch.manual_seed(5)
        layer = (
            KINDS[kind](2, 5, layers, bidirectional=both, batch_first=first, bias=bias, dropout=0.5 * (layers > 1), **more).double().eval()
        )
        net, x = Given(layer), torch.randn(3, 7, 2, generator=g, dtype=DOUBLE)
        n, rows = x.shape[0 if first else 1], layers * (2 if both else 1)
        h = torch.randn(rows, n, more.get("proj_size", 5), generator=g, dtype=DOUBLE)
        start = (h, torch.randn(rows, n, 5, generator=g, dtype=DOUBLE)) if kind == "LSTM" else h
        for given in (None, start):
            wanted, found = leaves(net(x, given)), leaves(pl.unrolled(net).module(x, given))
            assert [t.shape for t in found] == [t.shape for t in wanted]
            assert all(torch.allclose(a, b, rtol=0, atol=1e-12) for a, b in zip(found, wanted, strict=True))
    alone = x[:, 0] if not first else x[0]
    assert torch.allclose(leaves(pl.unrolled(net).module(alone))[0], leaves(net(alone))[0], atol=1e-12)


@pytest.mark.parametrize("name", nets())
def test_rules_are_exact_on_what_is_written_out_and_refuse_what_is_fused(name):
    net, x = nets()[name], course()
    fused = pl.on_signals(net)
    written = pl.unrolled(fused)
    assert torch.allclose(written.module(x.values[None]), net(x.values[:, 0][None]), atol=1e-12)
    for method in ("deeplift", "lrp"):
        with pytest.raises(NoRule, match=r"(lstm|gru|rnn).*pl\.unrolled"):
            pl.explain(fused, x, 1, method=method)
    baseline = pl.Constant(0.3)
    lift = pl.explain(written, x, 1, method=pl.deeplift(baseline=baseline))
    gone = net(torch.full_like(x.values[:, 0], 0.3)[None])[0, 1].detach()
    assert lift.total == pytest.approx(lift.score - float(gone), abs=1e-6)
    assert abs(lift.trace["gap"]) < 1e-9 and lift.values.abs().max() > 0
    for composite in ("epsilon", "epsilon_plus_flat"):
        why = pl.explain(written, x, 1, method=pl.lrp(composite=composite))
        assert why.total + sum(why.trace["absorbed"].values()) == pytest.approx(why.score, abs=1e-6)
        assert why.values.abs().max() > 0
    two = pl.explain(written, x, 2, method="deeplift")
    assert not torch.allclose(two.values, lift.values)


@pytest.mark.parametrize("name", ["LSTM 1", "GRU 2", "RNN 4", "GRUCell"])
def test_gradients_are_those_of_the_fused_layer(name):
    net, x = nets()[name], course()
    for method in (pl.saliency(), pl.integrated_gradients(steps=8)):
        fused, written = (pl.explain(n, x, 1, method=method).values for n in (pl.on_signals(net), pl.unrolled(pl.on_signals(net))))
        assert torch.allclose(fused, written, atol=1e-12)


def test_lrp_of_one_step_is_the_rule_of_arras():
    """z = W x + U h + b, gates take nothing: c = f c' + i g shares by its terms, tanh and the output gate hand on; written slowly."""
    net = Loop(nn.LSTMCell)
    x = course(2)
    with torch.no_grad():
        w, u, b = net.cell.weight_ih, net.cell.weight_hh, net.cell.bias_ih + net.cell.bias_hh
        h = c = torch.zeros(5, dtype=DOUBLE)
        past = []
        for one in x.values[:, 0].T:
            i, f, g, o = (w @ one + u @ h + b).chunk(4)
            before, kept = h, f.sigmoid() * c
            c = kept + i.sigmoid() * g.tanh()
            past.append((one, before, kept, i.sigmoid() * g.tanh(), g, c))
            h = o.sigmoid() * c.tanh()
        maps, r_h, r_c = [], net.head.weight[1] * h, torch.zeros(5, dtype=DOUBLE)
        for one, before, kept, fresh, g, cell in reversed(past):
            r_g, r_c = (r_h + r_c) * fresh / cell, (r_h + r_c) * kept / cell
            rows = slice(10, 15)
            maps.insert(0, (w[rows] * one * (r_g / g)[:, None]).sum(0))
            r_h = (u[rows] * before * (r_g / g)[:, None]).sum(0)
    why = pl.explain(pl.unrolled(pl.on_signals(net)), x, 1, method=pl.lrp(composite="epsilon", epsilon=0.0))
    assert torch.allclose(why.values[:, 0], torch.stack(maps, 1), rtol=1e-6, atol=1e-9)


class Finder(nn.Module):
    """Reads a sequence to its end and says whether a peak was there."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.memory(x.transpose(1, 2))[0][:, -1])


def planted(n: int, g: torch.Generator, t: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, half of it with a peak of three samples; where it begins."""
    x, y = 0.3 * torch.randn(n, 1, t, generator=g), torch.arange(n) % 2
    at = torch.randint(2, t - 8, (n,), generator=g)
    for k in range(n):
        if y[k]:
            x[k, 0, at[k] : at[k] + 3] += 2
    return x, y, at


@pytest.fixture(scope="module")
def finder() -> Finder:
    torch.manual_seed(0)
    net, g = Finder(), torch.Generator().manual_seed(0)
    step = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(150):
        x, y, _ = planted(64, g)
        loss = nn.functional.cross_entropy(net(x), y)
        step.zero_grad()
        loss.backward()
        step.step()
    x, y, _ = planted(200, torch.Generator().manual_seed(1))
    assert (net(x).argmax(1) == y).float().mean() > 0.97
    return net.double()


@pytest.mark.parametrize("method", [pl.deeplift(), pl.lrp(composite="epsilon")])
def test_the_map_of_a_trained_network_finds_the_planted_event(finder, method):
    x, y, at = planted(20, torch.Generator().manual_seed(2))
    net, hits, share = pl.unrolled(pl.on_signals(finder)), [], []
    for k in torch.nonzero(y)[:, 0].tolist():
        found = pl.explain(net, pl.signal(x[k].double()), pl.logit(1) - pl.logit(0), method=method).relevance[0]
        hits.append(int(at[k]) <= int(found.argmax()) <= int(at[k]) + 2)
        up = found.clamp_min(0)
        share.append(float(up[at[k] : at[k] + 3].sum() / up.sum()))
    assert sum(hits) >= 0.9 * len(hits) and sum(share) / len(share) > 0.5  # 3 of 24 samples


def test_nothing_of_the_network_changes_and_weights_are_the_same():
    net = Layer("LSTM").train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    own = dict(vars(net))
    model = pl.unrolled(pl.Model(net, ("a", "b", "c"), name="mine"))
    pl.explain(pl.unrolled(pl.on_signals(net)), course(), 1, method="lrp")
    assert vars(net) == own and net.training and net.memory.training and all(p.requires_grad for p in net.parameters())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert [*model.module.state_dict()] == [*before] and model.classes == ("a", "b", "c") and model.name == "mine"
    assert all(a is b for a, b in zip(model.module.parameters(), net.parameters(), strict=True))
    assert [n for n, _ in model.module.named_modules()] == [n for n, _ in net.named_modules()]
    assert model.fingerprint == pl.Model(net).fingerprint and model.identity != pl.Model(net).identity
    with torch.no_grad():
        net.head.bias += 1  # trained further: the other door knows
    x = course().values[:, 0][None]
    assert torch.allclose(model.module.eval()(x), net(x)) and not net.training
    assert pl.unrolled(model) is model


def test_it_can_be_copied_and_sent():
    net = pl.unrolled(pl.on_signals(Layer("GRU")))
    x = course().values[None]
    for other in (copy.deepcopy(net.module), pickle.loads(pickle.dumps(net)).module):
        assert torch.equal(other(x), net.module(x))
        assert all(a is not b for a, b in zip(other.parameters(), net.module.parameters(), strict=True))
        assert all(a is b for a, b in zip(other.parameters(), other.origin.parameters(), strict=True))


def test_what_cannot_be_written_out_is_refused_by_name():
    with pytest.raises(BadModel, match="LSTM, GRU or RNN"):
        pl.unrolled(nn.Linear(2, 2))
    with pytest.warns(DeprecationWarning, match="torch.jit"), pytest.raises(Unsupported, match="TorchScript"):
        pl.unrolled(torch.jit.script(nn.LSTM(2, 2)))

    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.memory = nn.GRU(2, 3, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            packed = nn.utils.rnn.pack_padded_sequence(x[:, :, 0].transpose(1, 2), [x.shape[-1]] * len(x), batch_first=True)
            return self.memory(packed)[1][0]

    with pytest.raises(Unsupported, match="packed sequence"):
        pl.explain(pl.unrolled(Packed()), torch.rand(2, 1, 6), 1, method="deeplift")


def test_signals_know_their_time():
    image = pl.signal(torch.zeros(1, 5), step=0.5, start=2.0, channels=("II",), quantity="mV")
    assert image.grid.say((0, 3))[1] == "3.5 s" and image.channels == ("II",) and image.quantity == "mV"
    with pytest.raises(BadImage, match=r"\(c, t\)"):
        pl.signal(torch.zeros(1, 1, 5))
    with pytest.raises(BadParameter, match="step"):
        pl.signal(torch.zeros(1, 5), step=0)
    net = pl.on_signals(nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(6, 2)))
    with pytest.raises(BadImage, match="one row"):
        pl.explain(net, torch.rand(1, 2, 5), 1, method="saliency")


@pytest.mark.parametrize("name", ["LSTM 1", "RNN 4", "LSTMCell"])
def test_each_method_with_rules_is_exact_written_out_and_refuses_the_fused_layer(name):
    net, x = pl.on_signals(nets()[name]), course()
    for method in ("guided_backprop", "deconvnet", "deep_taylor", "excitation_backprop", "pattern_net"):
        with pytest.raises(NoRule, match=r"(lstm|rnn).*pl\.unrolled"):
            pl.explain(net, x, 1, method=method)
    written = pl.unrolled(net)
    slope, guided = (torch.stack([pl.explain(written, x, k, method=m).values for k in range(3)]) for m in ("saliency", "guided_backprop"))
    assert torch.allclose(slope, guided, atol=1e-12) == (name != "RNN 4")  # only rectifiers are guided
    target = pl.logit(1) if pl.explain(written, x, 1, method="saliency").score > 0 else -1 * pl.logit(1)
    taylor = pl.explain(written, x, target, method="deep_taylor")
    assert taylor.total + sum(taylor.trace["absorbed"].values()) == pytest.approx(taylor.score, abs=1e-6)
    assert (taylor.values >= 0).all()
    with pytest.raises(NoRule, match="sigmoid|relu"):
        pl.explain(written, x, 1, method=pl.deeplift(rule="reveal_cancel"))
