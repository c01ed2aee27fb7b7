"""A family of networks whose behavior is known: what each uses is measured by intervention before any map of it is judged.

For each kind of phantom and architecture: ``clean`` (the shortcut is a coin of its own), ``confounded`` (it follows the label in 95 % of cases),
``shortcut`` (the label is the shortcut itself) and ``random`` (untrained). Interventions draw the same patient again with one part switched: what
the cause's removal takes from the score, and what the shortcut adds to a healthy image. Roles are intentions; ``uses_cause`` and
``uses_shortcut`` are findings. Tuning sees seed 0 of ``residual`` only; everything else is for scoring.

    python studies/family.py        trains what is missing (about 15 minutes on one core) and writes docs/family.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import family_nets as own
from studies.pages import put, stamp

from pellucid.phantoms.cohort import cases
from pellucid.phantoms.drawing import Phantom

ROOT = Path(__file__).parents[1]
CACHE = ROOT / "out" / "family"
KINDS = {"fundus_dme": {"dme": False}, "chest": {"effusion": False}}  # and the switch that removes the cause
ROLES = ("clean", "confounded", "shortcut", "random")
PLANS = (
    ("residual", 0),
    ("residual", 1),
    ("residual", 2),
    ("excited", 1),
    ("excited", 2),
    ("bare", 1),
    ("attending", 1),
)  # architecture, seed
TRAINING, HELD_OUT, CASES = 71, 72, 640
EPOCHS = {"residual": 12, "excited": 16, "bare": 12, "attending": 50}
FOLLOWS = 0.95
MOVES = 0.25  # of the spread of the score over held-out cases: an intervention that moves it less has no effect


@dataclass(frozen=True)
class Member:
    """One network, what was meant, and what interventions found. Effects are in units of the score's spread over held-out cases."""

    kind: str
    architecture: str
    seed: int
    role: str
    auc: float
    cause: float
    shortcut: float
    distractor: float

    @property
    def name(self) -> str:
        return f"{self.kind} {self.role} {self.architecture} {self.seed}"

    @property
    def tuning(self) -> bool:
        return (self.architecture, self.seed) == PLANS[0]

    @property
    def above_chance(self) -> bool:
        """Whether it has learned anything: it tells the label, or follows a part of the picture where the label does not."""
        return self.auc > 0.75 or max(self.cause, self.shortcut) > 2 * MOVES

    @property
    def uses_cause(self) -> bool:
        return self.above_chance and self.cause > MOVES

    @property
    def uses_shortcut(self) -> bool:
        return self.above_chance and self.shortcut > MOVES

    def net(self) -> nn.Module:
        """The network itself, in eval mode; two classes."""
        return _net(self.kind, self.architecture, self.seed, self.role)


def phantoms_of(kind: str, n: int, seed: int, confounding: float = 0.0) -> Iterator[Phantom]:
    """Phantoms at the size that the family was trained on."""
    return cases(kind, n, seed, size=own.SIZES[kind], confounding=confounding)


@cache
def _data(kind: str, role: str) -> tuple[Tensor, Tensor]:
    """Images (n, c, *space) and labels (n,), kept on disk."""
    path = CACHE / f"{kind}-{'confounded' if role == 'confounded' else 'plain'}.pt"
    if not path.exists():
        made = list(phantoms_of(kind, CASES, TRAINING, FOLLOWS if role == "confounded" else 0.0))
        label = torch.tensor([int(p.labels[own.LABEL[kind]]) for p in made])
        mark = torch.tensor([int(bool(p.masks["shortcut"].any())) for p in made])
        torch.save((torch.stack([p.image.values for p in made]).half(), label, mark), path)
    x, label, mark = torch.load(path)
    return x.float(), mark if role == "shortcut" else label


def _net(kind: str, architecture: str, seed: int, role: str) -> nn.Module:
    net = own.untrained(kind, architecture, 500 + seed)
    if role == "random":
        return net
    path = CACHE / f"{kind}-{role}-{architecture}-{seed}.pt"
    if not path.exists():
        _train(net, *_data(kind, role), seed, EPOCHS[architecture])
        torch.save(net.state_dict(), path)
    net.load_state_dict(torch.load(path))
    return net.eval()


def _train(net: nn.Module, x: Tensor, y: Tensor, seed: int, epochs: int) -> None:
    """Brightness and noise vary, nothing is erased: whatever predicts the label may be used."""
    chance = torch.Generator().manual_seed(seed)
    step = torch.optim.AdamW(net.parameters(), 2e-3, weight_decay=1e-3)
    plan = torch.optim.lr_scheduler.OneCycleLR(step, 3e-3, total_steps=epochs * (len(x) // 32))
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=chance).split(32)[: len(x) // 32]:
            shape = (len(rows), *[1] * (x.ndim - 1))
            seen = x[rows] * (1 + 0.15 * (2 * torch.rand(shape, generator=chance) - 1))
            seen = seen + 0.03 * torch.rand(shape, generator=chance) * torch.randn(seen.shape, generator=chance)
            step.zero_grad()
            F.cross_entropy(net(seen), y[rows], label_smoothing=0.08).backward()
            step.step()
            plan.step()


@torch.no_grad()
def _margin(net: nn.Module, images: list[Tensor]) -> Tensor:
    out = torch.cat([net(torch.stack(images[i : i + 32])) for i in range(0, len(images), 32)])
    return out[:, 1] - out[:, 0]


def _found(kind: str, architecture: str, seed: int, role: str, held: list[Phantom]) -> Member:
    """What interventions on held-out cases do to the score."""
    net = _net(kind, architecture, seed, role)
    margin = _margin(net, [p.image.values for p in held])
    spread = float(margin.std())
    label = torch.tensor([bool(p.masks["shortcut"].any()) if role == "shortcut" else bool(p.labels[own.LABEL[kind]]) for p in held])
    a, b = margin[label], margin[~label]
    auc = float(((a[:, None] > b).float() + 0.5 * (a[:, None] == b).float()).mean())
    sick = [p for p in held if p.labels[own.LABEL[kind]]]
    healed = _margin(net, [p.twin(**KINDS[kind]).image.values for p in sick])
    cause = float((_margin(net, [p.image.values for p in sick]) - healed).mean()) / spread
    well = [p for p in held if not p.labels[own.LABEL[kind]]]
    effects = {}
    for part in ("shortcut", "distractor"):
        without = _margin(net, [p.twin(**{part: 0.0}).image.values for p in well])
        effects[part] = float((_margin(net, [p.twin(**{part: 0.8}).image.values for p in well]) - without).mean()) / spread
    return Member(kind, architecture, seed, role, auc, cause, effects["shortcut"], effects["distractor"])


def members() -> list[Member]:
    """The whole family, trained and measured where that is missing."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = CACHE / "members.pt"
    known: dict[str, dict[str, object]] = torch.load(path) if path.exists() else {}
    found = []
    for kind in KINDS:
        held: list[Phantom] = []
        for architecture, seed in PLANS:
            for role in ROLES:
                name = f"{kind} {role} {architecture} {seed}"
                if name not in known:
                    held = held or list(phantoms_of(kind, 80, HELD_OUT))
                    known[name] = asdict(_found(kind, architecture, seed, role, held))
                    torch.save(known, path)
                    print(name, {k: round(v, 3) for k, v in known[name].items() if isinstance(v, float)}, flush=True)
                found.append(Member(**known[name]))  # type: ignore[arg-type]
    return found


HEAD = """# A family of networks whose behavior is known

What each network uses was measured by drawing the same patient again with one part switched, before any of its maps was judged. Effects are the mean
change of the score (difference of the two logits) in units of its spread over 80 held-out phantoms: *cause*, what taking the lesions away
removes; *shortcut* and *distractor*, what drawing them into a healthy image adds. An effect counts above 0.25. AUC is for what the network was
meant to tell, on cases where the shortcut says nothing of the label: a network that follows the shortcut alone has an AUC of a half. Tuning of any rule may look at seed 0 of `residual` alone.
"""


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    lines = ["| network | for | AUC | cause | shortcut | distractor | uses |", "| --- | --- | --- | --- | --- | --- | --- |"]
    for m in members():
        uses = ", ".join(w for w, yes in (("cause", m.uses_cause), ("shortcut", m.uses_shortcut)) if yes) or (
            "nothing" if m.above_chance else "at chance"
        )
        part = "tuning" if m.tuning else "scoring"
        lines.append(f"| {m.name} | {part} | {m.auc:.3f} | {m.cause:+.2f} | {m.shortcut:+.2f} | {m.distractor:+.2f} | {uses} |")
    made = stamp("Made by `studies/family.py`", time.perf_counter() - began, ", seeds 71 (training), 72 (held out)", of="phantoms")
    put("family.md", HEAD, "Networks", "\n".join(lines) + f"\n\n{made}")


if __name__ == "__main__":
    main()
