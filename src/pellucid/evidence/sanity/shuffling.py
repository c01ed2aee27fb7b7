"""Randomized copies: the same network with parameters in random places, or as before any training. The network itself is never touched."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pellucid.errors import Unsupported
from pellucid.model import Model
from pellucid.probe.ledger import untouched

How = Literal["shuffled", "drawn"]


@dataclass(frozen=True)
class Block:
    """Parameters that are shuffled together: those of one weight layer and of the norms that follow it, by name."""

    names: tuple[str, ...]


@dataclass(eq=False)
class Shuffler:
    """One copy of a network, whose blocks can be randomized again and again.

    Shuffling puts each tensor's own values into a random order, so that all its moments stay and nothing learned does: for weights drawn
    independently, as an untrained network has them, the copy is as likely as the network itself. ``blocks`` are in the order of execution.
    Every parameter belongs to one block: class tokens and position embeddings, the projections inside attention, norms, biases. Buffers,
    such as the running statistics of batch norm, stay (as in Adebayo et al. 2018).
    """

    model: Model
    blocks: tuple[Block, ...] = ()
    _own: dict[str, Tensor] = field(default_factory=dict)
    _buffers: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, x: Tensor) -> Shuffler:
        """A copy of the network; one pass over ``x`` (c, *space) finds the order of execution.

        Raises:
            Unsupported: the network cannot be copied or watched.
        """
        if isinstance(model.module, torch.jit.ScriptModule):
            raise Unsupported("shuffling needs a network whose modules can be watched", "TorchScript", "Load the factory with its weights.")
        try:
            module = copy.deepcopy(model.module)
        except (RuntimeError, TypeError) as error:
            raise Unsupported(
                "shuffling needs a copy of the network", str(error).splitlines()[0], "Give one that copy.deepcopy takes."
            ) from error
        own = {name: p.detach().clone() for name, p in model.module.named_parameters()}
        buffers = {name: b.detach().clone() for name, b in model.module.named_buffers()}
        twin = replace(model, module=module)
        return cls(twin, _blocks(twin, x), own, buffers)

    def randomize(self, blocks: tuple[Block, ...], chance: torch.Generator, how: How = "shuffled") -> Model:
        """The copy with these blocks randomized, in one way or the other."""
        return self.shuffle(blocks, chance) if how == "shuffled" else self.draw(blocks, chance)

    def shuffle(self, blocks: tuple[Block, ...], chance: torch.Generator) -> Model:
        """The copy with these blocks shuffled and all others as in the network; each tensor draws anew."""
        chosen = {name for block in blocks for name in block.names}
        with torch.no_grad():
            for name, p in self.model.module.named_parameters():
                values = self._own[name]
                if name in chosen:
                    order = torch.randperm(values.numel(), generator=chance).to(values.device)
                    values = values.flatten()[order].view_as(values)
                p.copy_(values)
        return self.model

    def draw(self, blocks: tuple[Block, ...], chance: torch.Generator) -> Model:
        """The copy with these blocks as before any training, each by its module's own initializer (Adebayo et al. 2018); the rest as it is.

        Parameters of modules without one (class tokens, position embeddings) are drawn from the normal distribution with their own mean and
        standard deviation. Buffers stay. No global source of chance is touched.
        """
        chosen = {name for block in blocks for name in block.names}
        module, met = self.model.module, set[str]()
        with torch.no_grad(), torch.random.fork_rng(devices=[]), _From(chance):
            torch.default_generator.manual_seed(_seed(chance))  # for initializers of a module's own that no source can be given to
            for holder, part in reversed(list(module.named_modules())):  # a part within before what holds it, as in their making
                reset = getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)
                mine = {f"{holder}.{n}".lstrip(".") for n, _ in part.named_parameters(recurse=False)}
                if callable(reset) and mine & chosen:
                    reset()
                    met |= mine
        with torch.no_grad():
            for name, p in module.named_parameters():
                if name not in chosen:
                    p.copy_(self._own[name])
                elif name not in met:
                    own = self._own[name]
                    drawn = torch.randn(own.shape, generator=chance, dtype=own.dtype).to(own.device)
                    p.copy_(own.mean() + drawn * (own.std() if own.numel() > 1 else own.abs()))
            for name, b in module.named_buffers():
                b.copy_(self._buffers[name])
        return self.model

    def stages(self, count: int) -> list[tuple[Block, ...]]:
        """Growing groups of blocks from the output down, ``count`` at most, evenly spaced; the last holds all."""
        n = len(self.blocks)
        sizes = sorted({max(1, round(n * (k + 1) / count)) for k in range(count)})
        return [self.blocks[n - size :] for size in sizes]


class _From(TorchDispatchMode):
    """Initializers draw from this source: their modules know only the global one."""

    def __init__(self, chance: torch.Generator) -> None:
        super().__init__()
        self.chance = chance

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if kwargs.get("generator") is None and any(a.name == "generator" for a in func._schema.arguments):
            device = next((a.device for a in args if isinstance(a, Tensor)), torch.device("cpu"))
            kwargs["generator"] = self.chance if device.type == "cpu" else torch.Generator(device).manual_seed(_seed(self.chance))
        return func(*args, **kwargs)


def _seed(chance: torch.Generator) -> int:
    return int(torch.randint(2**62, (), generator=chance))


def _blocks(model: Model, x: Tensor) -> tuple[Block, ...]:
    """All parameters in the order in which one pass meets their modules; what is never called itself goes with the module around it."""
    module = model.module
    names = {m: n for n, m in module.named_modules()}
    met: dict[str, int] = {}

    def note(m: nn.Module, _args: object) -> None:
        met.setdefault(names[m], len(met))

    with untouched(module), torch.no_grad():  # the ledger takes the hooks away again
        for m in names:
            m.register_forward_pre_hook(note)
        model.forward(x[None])
    holders: dict[str, list[str]] = {}
    for name, _ in module.named_parameters():
        holders.setdefault(name.rpartition(".")[0], []).append(name)

    def place(holder: str) -> int:
        while holder and holder not in met:
            holder = holder.rpartition(".")[0]
        return met.get(holder, -1)

    blocks: list[Block] = []
    weights = dict(module.named_parameters())
    for holder in sorted(holders, key=place):
        heavy = any(weights[n].ndim > 1 for n in holders[holder])
        if heavy or not blocks:
            blocks.append(Block(tuple(holders[holder])))
        else:
            blocks[-1] = Block((*blocks[-1].names, *holders[holder]))
    return tuple(blocks)


def parameterless(module: nn.Module) -> bool:
    """Whether there is nothing to shuffle."""
    return next(module.parameters(), None) is None
