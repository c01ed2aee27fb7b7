"""Twin: a network that is asked in another way. One tree of modules and one set of weights, two doors."""

from __future__ import annotations

from typing import Self

from torch import nn


class Twin(nn.Module):
    """Abstract: stands beside a network and shares all that it has: children, parameters, buffers, hooks, its training flag.

    Names of sites and weights stay as they are, whoever holds the one holds the other, and nothing of the network itself is changed. A subclass
    says in ``forward`` how ``self.origin`` is asked.
    """

    origin: nn.Module

    @classmethod
    def of(cls, net: nn.Module) -> Self:
        """The twin of a network. A network without children becomes the only child of a plain one: what nothing shares, nothing can hold."""
        net = net if any(True for _ in net.children()) else nn.Sequential(net)
        twin = cls.__new__(cls)
        twin.__dict__.update({k: v for k, v in vars(net).items() if k in _SHARED})
        twin.__dict__["origin"] = net
        return twin

    @property
    def training(self) -> bool:  # type: ignore[override]
        return self.origin.training

    @training.setter
    def training(self, value: bool) -> None:
        self.origin.training = value


_SHARED = frozenset(vars(nn.Module())) - {"training"}
