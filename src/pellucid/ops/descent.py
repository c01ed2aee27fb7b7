"""Descent rules, written out: Adam and SGD with momentum. (torch.optim compiles on its first step, which takes seconds.)"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Adam:
    """Kingma, Ba 2015; with ``amsgrad`` the second moment never falls (Reddi et al. 2018)."""

    rate: float
    amsgrad: bool = False
    betas: tuple[float, float] = (0.9, 0.999)
    taken: int = 0
    first: Tensor = field(default_factory=lambda: torch.zeros(()))
    second: Tensor = field(default_factory=lambda: torch.zeros(()))
    highest: Tensor = field(default_factory=lambda: torch.zeros(()))

    def step(self, at: Tensor, gradient: Tensor) -> Tensor:
        """The next point."""
        self.taken += 1
        b1, b2 = self.betas
        self.first = b1 * self.first.to(gradient) + (1 - b1) * gradient
        self.second = b2 * self.second.to(gradient) + (1 - b2) * gradient**2
        self.highest = torch.maximum(self.highest.to(gradient), self.second) if self.amsgrad else self.second
        spread = (self.highest / (1 - b2**self.taken)).sqrt() + 1e-8
        return at - self.rate / (1 - b1**self.taken) * self.first / spread


@dataclass
class Momentum:
    """SGD with momentum, damped by as much as it keeps (but for its first step, as in torch.optim)."""

    rate: float
    keep: float = 0.9
    moving: Tensor | None = None

    def step(self, at: Tensor, gradient: Tensor) -> Tensor:
        """The next point."""
        self.moving = gradient if self.moving is None else self.keep * self.moving + (1 - self.keep) * gradient
        return at - self.rate * self.moving
