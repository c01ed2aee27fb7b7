"""Traces: what a constructed recurrent layer does step by step, in seconds, and which of its units follow a planted event."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadParameter, BadSite
from pellucid.prototypes.traced import Traces
from pellucid.prototypes.traces import unit_traces


class Known(nn.Module):
    """Unit 0 adds up what is above 1 (it remembers), unit 1 shows what is above 1 (it sees), unit 2 counts steps, unit 3 gives nothing."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.memory, self.head = nn.RNN(1, 4, nonlinearity="relu", batch_first=True), nn.Linear(4, 2)
        with torch.no_grad():
            for p in self.memory.parameters():
                p.zero_()
            self.memory.weight_ih_l0[1] = 1.0
            self.memory.bias_ih_l0[1] = -1.0
            self.memory.weight_hh_l0[0, 0] = self.memory.weight_hh_l0[0, 1] = 1.0
            self.memory.weight_hh_l0[2, 2] = 1.0
            self.memory.bias_ih_l0[2] = 0.1

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.memory(x.transpose(1, 2))[0][:, -1])


def sequences(n: int = 8, t: int = 40, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Weak noise with one stretch of 2; which samples it covers."""
    g = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.randn(n, 1, t, generator=g)
    events = torch.zeros(n, t, dtype=torch.bool)
    for k, a in enumerate(torch.randint(5, t - 12, (n,), generator=g).tolist()):
        events[k, a : a + 6] = True
    return list(x + 2 * events[:, None]), list(events)


@pytest.fixture(scope="module")
def found() -> Traces:
    x, events = sequences()
    return unit_traces(pl.on_signals(Known()), [pl.signal(v, step=0.01, channels=("II",)) for v in x], "memory", events=events)


def test_the_units_that_see_and_that_remember_are_told_from_those_that_count(found):
    assert [r.follows for r in found.rows] == ["since", "during", "nothing", "nothing"]
    assert found.rows[1].during > 0.99 and found.rows[0].since > 0.95 and found.rows[0].since_low > 0.9
    assert found.rows[2].since == 1.0 and found.rows[2].since_p > 0.2  # a counter is higher after anything
    assert found.rows[3].during == found.rows[3].since == 0.5
    assert any("Unit 1 is higher in the event" in s for s in found.sentences())


def test_a_trace_is_what_the_layer_gives_in_seconds(found):
    net, x = Known(), sequences()[0][0]
    with torch.no_grad():
        z = net.memory(x[None].transpose(1, 2))[0][0]
    assert np.allclose(found.values, z.numpy(), atol=1e-6)
    assert found.unit == "s" and found.at[0] == 0 and found.at[-1] == pytest.approx(0.39)


def test_events_of_other_sequences_are_followed_by_nothing():
    x, _ = sequences()
    _, others = sequences(seed=9)
    found = unit_traces(Known(), x, "memory", events=others)
    assert all(r.follows == "nothing" for r in found.rows) and found.evidence.verdict == "not supported" and found.unit == "steps"


class Places(nn.Module):
    """A convolution of half the rate, a cell's loop on its steps, an LSTM of two directions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.cell = nn.Conv1d(1, 3, 3, stride=2), nn.LSTMCell(3, 4)
        self.both, self.tail, self.head = nn.LSTM(4, 5, 2, bidirectional=True, batch_first=True), nn.Linear(10, 6), nn.Linear(6, 2)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        z, state, out = torch.relu(self.conv(x)), None, []
        for one in z.unbind(2):
            state = self.cell(one, state)
            out.append(state[0])
        return self.head(self.tail(self.both(torch.stack(out, 1))[0]).mean(1))


def test_every_kind_of_layer_has_its_steps_where_they_lie():
    net, x = Places(), torch.randn(1, 21, dtype=torch.float64)
    image = pl.signal(x, step=0.5)
    z = torch.relu(net.conv(x[None])).detach()
    state, hs, cs = None, [], []
    for one in z.unbind(2):
        state = net.cell(one, state)
        hs.append(state[0])
        cs.append(state[1])
    inner = torch.stack(hs, 1)
    wanted = {
        ("conv", "output"): net.conv(x[None])[0].T,
        ("cell", "output"): inner[0],
        ("cell", "cell"): torch.stack(cs, 1)[0],
        ("both", "output"): net.both(inner)[0][0],
        ("tail", "output"): net.tail(net.both(inner)[0])[0],
    }
    for model in (pl.on_signals(net), pl.unrolled(pl.on_signals(net))):
        for (site, kind), values in wanted.items():
            found = unit_traces(model, image, site, state=kind)
            assert np.allclose(found.values, values.detach().numpy(), atol=1e-12), site
            assert np.allclose(found.at, 0.5 * (1 + 2 * np.arange(10))), site  # a kernel of three looks at its middle
            assert not found.notes
    last = net.both(inner)[1][1]
    for layer, k in ((0, 0), (1, 2)):
        cells = unit_traces(pl.on_signals(net), image, "both", state="cell", layer=layer).values
        assert np.allclose(cells[-1, :5], last[k, 0].detach().numpy()) and np.allclose(cells[0, 5:], last[k + 1, 0].detach().numpy())
    assert not net.both._forward_hooks and not net.both._forward_pre_hooks


def test_a_film_is_followed_along_its_time():
    """A volume whose last axis is time: a bright frame is seen by the unit of a convolution when it is there."""
    conv = nn.Conv3d(1, 1, 1)
    net = nn.Sequential(conv, nn.Flatten(), nn.Linear(4 * 4 * 12, 2))
    x = torch.zeros(1, 4, 4, 12)
    x[..., 7] = 1
    found = unit_traces(net, pl.Image(x, pl.Grid.spaced((4, 4, 12), (1, 1, 2.5))), "0", events=[x[0, 0, 0] > 0])
    w, b = float(conv.weight.detach()), float(conv.bias.detach())
    assert found.values[7, 0] == pytest.approx(w + b) and found.values[3, 0] == pytest.approx(b)
    assert found.unit == "mm" and found.at[7] == pytest.approx(17.5) and found.signal.values[0, 0, 7] == 1


def test_saved_loaded_and_drawn(found, tmp_path):
    again = Traces.load(found.save(tmp_path / "traces.json"), pl.on_signals(Known()))
    assert again.facts() == found.facts() and np.array_equal(again.values, found.values)
    again.figure(tmp_path / "traces.png", units=(0, 1))
    assert (tmp_path / "traces.png").stat().st_size > 10_000
    assert found.table()["unit"][0] in (0, 1)


def test_without_events_nothing_is_tested():
    found = unit_traces(Known(), sequences(1)[0][0], "memory")
    assert found.evidence.verdict is None and found.rows[0].follows == "not asked" and found.best[0].reach >= found.best[1].reach


def test_what_has_no_steps_is_refused():
    x, events = sequences(2)
    for site, more, what in (
        ("head", {}, "steps and units"), ("nowhere", {}, "does not exist"), ("memory", {"state": "cell"}, "without one"),
        ("memory", {"layer": 3}, "a layer of"),
    ):  # fmt: skip
        with pytest.raises(BadSite, match=what):
            unit_traces(Known(), x, site, **more)
    for bad, what in (([events[0]], "each of 2"), ([e[:5] for e in events], "along 40"), ([e | True for e in events], "begin or end")):
        with pytest.raises(BadParameter, match=what):
            unit_traces(Known(), x, "memory", events=bad)
