"""Pictures of ``docs/prototypes.md``: what the units of a phantom network answer to, and what those of an LSTM give along a sequence.

python studies/units.py docs/figures
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.prototypes import Dissection, Traces, network_dissection, unit_traces

CONCEPTS = ("optic_disc", "vessels", "exudates", "hemorrhages", "fovea")
PATIENTS, STEPS, RATE = 24, 48, 0.02


def dissected(net: pl.Model) -> Dissection:
    """Units of the fundus phantom's last stage against what was drawn, in patients with retinopathy."""
    eyes = [pl.phantoms.fundus(seed=900 + k, stage=2 + k % 2, dme=bool(k % 3)) for k in range(PATIENTS)]
    masks = {name: [e.masks[name] for e in eyes] for name in CONCEPTS}
    return network_dissection(net, [e.image for e in eyes], masks, "features.2", quantile=0.02)


class Finder(nn.Module):
    """Reads a sequence to its end and says whether a beat was early."""

    def __init__(self) -> None:
        super().__init__()
        self.memory, self.head = nn.LSTM(1, 10, batch_first=True), nn.Linear(10, 2)
        nn.init.constant_(
            self.memory.bias_ih_l0[10:20], 2.0
        )  # forget slowly at first, or nothing of 48 steps is learned (Jozefowicz et al. 2015)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.memory(x.transpose(1, 2))[0][:, -1])


def beats(n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rhythms (n, 1, t) of narrow beats; in every second one a wide beat comes (y = 1): the sequences, labels, and where it lies."""
    g, t = torch.Generator().manual_seed(seed), torch.arange(STEPS)
    x, y, event = 0.08 * torch.randn(n, 1, STEPS, generator=g), torch.arange(n) % 2, torch.zeros(n, STEPS, dtype=torch.bool)
    for k in range(n):
        first = int(torch.randint(3, 9, (1,), generator=g))
        starts = list(range(first, STEPS - 5, 10))
        odd = starts[int(torch.randint(1, len(starts) - 1, (1,), generator=g))] if y[k] else -1
        for s in starts:
            width = 2.4 if s == odd else 0.8
            x[k, 0] += (2.0 if s == odd else 0.7) * torch.exp(-(((t - s) / width) ** 2))
        if y[k]:
            event[k, max(0, odd - 4) : odd + 5] = True
    return x, y, event


def traced() -> Traces:
    """The memory of an LSTM that was trained to tell rhythms with a wide beat."""
    torch.manual_seed(0)
    net = Finder()
    step = torch.optim.Adam(net.parameters(), 0.02)
    for k in range(300):
        x, y, _ = beats(64, k)
        loss = nn.functional.cross_entropy(net(x), y)
        step.zero_grad()
        loss.backward()
        step.step()
    x, y, event = beats(40, 10_000)
    print("held out, right:", float((net(x).argmax(1) == y).float().mean()))
    odd = torch.nonzero(y)[:, 0].tolist()
    signals = [pl.signal(x[k], step=RATE, channels=("II",), quantity="mV") for k in odd]
    return unit_traces(pl.on_signals(net), signals, "memory", events=[event[k] for k in odd], state="cell")


def main(folder: str) -> None:
    """Write both pictures, and print what they say."""
    out = Path(folder)
    units = dissected(pl.load_model("phantom:fundus_dr"))
    units.figure(out / "prototypes_dissection.webp", title="Units of the fundus phantom's last stage against what was drawn")
    course = traced()
    course.figure(out / "prototypes_traces.webp", title="The memory of an LSTM along a rhythm with one wide beat (gray)")
    for line in (*units.sentences(), *course.sentences()):
        print(line)


if __name__ == "__main__":
    main(sys.argv[1])
