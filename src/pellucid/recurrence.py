"""Recurrent layers written out step by step, so that rules which know products, sums and sigmoids know them too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from pellucid.errors import BadModel, Unsupported
from pellucid.model import Model, as_model
from pellucid.twin import Twin

State = tuple[Tensor, ...]  # (h,), of an LSTM (h, c)
Step = Callable[[Tensor, State, Sequence[Any]], State]  # of what comes in (n, gates), the state before, and the weights


def unrolled(net: Model | nn.Module) -> Model:
    """The same network with ``nn.LSTM``, ``nn.GRU``, ``nn.RNN`` and their cells written out in sums, products, sigmoids and tanh.

    Fused, a recurrent layer is one operation that no rule can look into: DeepLIFT, LRP, deep Taylor, excitation backpropagation and PatternNet refuse
    it by name. Written out, every rule holds: DeepLIFT sums to the difference, LRP conserves (gates take nothing, what they let pass takes
    all: Arras et al. 2017). All layers, directions, projections and learned starts; dropout between layers as the network's mode says.

    Args:
        net: the network, described or not. It stays as it is: the answer shares its modules, weights and names of sites, not its code path.

    Returns:
        A Model that gives the same outputs (1e-12 in float64), with the description of ``net``.

    Raises:
        BadModel: no recurrent layer, so that there is nothing to write out.
        Unsupported: TorchScript, which cannot be followed; and, when it is asked, a packed sequence.

    **Source**: the equations in the documentation of ``torch.nn.LSTM``, ``GRU``, ``RNN``. Time and memory grow with the number of steps.

    >>> import pellucid as pl, torch
    >>> class Last(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.memory, self.head = torch.nn.LSTM(1, 4, batch_first=True), torch.nn.Linear(4, 2)
    ...     def forward(self, x):  # (n, 1, 1, t)
    ...         return self.head(self.memory(x[:, :, 0].transpose(1, 2))[0][:, -1])
    >>> why = pl.explain(pl.unrolled(Last()), torch.randn(1, 1, 8), target=1, method="deeplift")
    >>> abs(why.trace["gap"]) < 1e-5
    True
    """
    model = as_model(net)
    if isinstance(model.module, Unrolled):
        return model
    if isinstance(model.module, torch.jit.ScriptModule):
        raise Unsupported("a network whose operations can be followed", "TorchScript", "Load the factory with its weights.")
    kinds = (nn.RNNBase, nn.RNNCellBase)
    if not any(isinstance(m, kinds) for m in model.module.modules()):
        raise BadModel("a network with LSTM, GRU or RNN layers", "none", "Explain it as it is.")
    return replace(model, module=Unrolled.of(model.module))


class Unrolled(Twin):
    """A network whose recurrent layers run step by step."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with _WrittenOut():
            return self.origin.forward(*args, **kwargs)


@dataclass(frozen=True, eq=False)
class Course:
    """The states of one layer in one direction, in the sequence's order: ``outputs`` (t, n, h) and, of an LSTM, ``memory`` (t, n, c)."""

    layer: int
    backwards: bool
    outputs: Tensor
    memory: Tensor | None


class _WrittenOut(TorchFunctionMode):
    """Fused recurrences become loops; everything else runs as it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(getattr(getattr(func, "overloadpacket", func), "__name__", ""))
        loop = LAYERS.get(name) or CELLS.get(name)
        return func(*args, **(kwargs or {})) if loop is None else loop(*args, **(kwargs or {}))


class Watched(TorchFunctionMode):
    """Fused layers become loops, whose states are kept in ``courses``, a list for each call."""

    def __init__(self) -> None:
        super().__init__()
        self.courses: list[list[Course]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        loop = LAYERS.get(str(getattr(getattr(func, "overloadpacket", func), "__name__", "")))
        if loop is None:
            return func(*args, **(kwargs or {}))
        self.courses.append([])
        return loop(*args, **(kwargs or {}), keep=self.courses[-1])


# ---------------------------------------------------------------------------- one step
def _recurrent(state: Tensor, weight: Tensor, bias: Any = None) -> Tensor | None:
    """What the state before adds; None of a state of zeros, with which a sequence begins: nothing is told of nothing."""
    if not state.requires_grad and not bool(state.any()):
        return None
    return F.linear(state, weight, bias)


def _sum(given: Tensor, more: Tensor | None) -> Tensor:
    return given if more is None else given + more


def _lstm(given: Tensor, state: State, weights: Sequence[Any]) -> State:
    h, c = state
    i, f, g, o = _sum(given, _recurrent(h, weights[1])).chunk(4, 1)
    new = torch.sigmoid(i) * torch.tanh(g)
    if c.requires_grad or bool(c.any()):
        new = torch.sigmoid(f) * c + new
    h = torch.sigmoid(o) * torch.tanh(new)
    return (h if len(weights) < 5 else F.linear(h, weights[4])), new


def _gru(given: Tensor, state: State, weights: Sequence[Any]) -> State:
    (h,), hidden = state, len(weights[1]) // 3
    gates, fresh = given.split([2 * hidden, hidden], 1)
    r, z = torch.sigmoid(_sum(gates, _recurrent(h, weights[1][: 2 * hidden]))).chunk(2, 1)
    bias = None if weights[3] is None else weights[3][2 * hidden :]
    memory = _recurrent(h, weights[1][2 * hidden :], bias)
    if memory is None:
        return ((1 - z) * torch.tanh(fresh if bias is None else fresh + r * bias),)
    return ((1 - z) * torch.tanh(fresh + r * memory) + z * h,)


def _plain(function: Callable[[Tensor], Tensor]) -> Step:
    return lambda given, state, weights: (function(_sum(given, _recurrent(state[0], weights[1]))),)


def _given(x: Tensor, weights: Sequence[Any], apart: bool) -> Tensor:
    """What the input (..., c) adds to the gates, with all biases but those that a GRU's gate weights (``apart``)."""
    bias, other = weights[2], weights[3]
    if bias is not None and apart:
        keep = 2 * len(other) // 3
        other = torch.cat([other[:keep], torch.zeros_like(other[keep:])])
    return F.linear(x, weights[0], None if bias is None else bias + other)


# ---------------------------------------------------------------------------- whole layers
def _layers(step: Step, states: int) -> Callable[..., Any]:
    """A fused layer as loops: over layers, directions and steps."""

    def run(
        x: Tensor, start: Any, weights: Any, biases: Any, layers: int, dropout: float, train: bool, both: bool, batch_first: bool,
        *, keep: list[Course] | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        if isinstance(weights, Tensor) or not isinstance(biases, bool):
            fix = "Give the network one sequence at a time, without pack_padded_sequence."
            raise Unsupported("a recurrence written out step by step", "a packed sequence, of several lengths side by side", fix)
        first = start if states > 1 else (start,)
        sets, ends = _sets(weights, biases, layers * (2 if both else 1)), []
        z = x.transpose(0, 1) if batch_first else x
        for layer in range(layers):
            found = []
            for direction in range(2 if both else 1):
                k = layer * (2 if both else 1) + direction
                way = _direction(step, z, tuple(s[k] for s in first), sets[k], backwards=direction == 1)
                found.append(torch.stack([s[0] for s in way]))
                ends.append(way[0 if direction else -1])
                if keep is not None:
                    keep.append(Course(layer, direction == 1, found[-1], torch.stack([s[1] for s in way]) if len(first) > 1 else None))
            z = torch.cat(found, 2) if both else found[0]
            if dropout and train and layer < layers - 1:
                z = F.dropout(z, dropout, True)
        return (z.transpose(0, 1) if batch_first else z, *(torch.stack(e) for e in zip(*ends, strict=True)))

    return run


def _direction(step: Step, z: Tensor, state: State, weights: Sequence[Any], *, backwards: bool) -> list[State]:
    """One layer in one direction over z (t, n, c): its states in the sequence's order."""
    given = _given(z, weights, step is _gru).unbind(0)
    states = []
    for one in reversed(given) if backwards else given:
        state = step(one, state, weights)
        states.append(state)
    return states[::-1] if backwards else states


def _sets(weights: Sequence[Tensor], biases: bool, n: int) -> list[list[Any]]:
    """The weights of each layer and direction: w_ih, w_hh, b_ih, b_hh (None without biases) and, of a projection, w_hr."""
    each = len(weights) // n
    found: list[list[Any]] = [list(weights[k * each : (k + 1) * each]) for k in range(n)]
    return found if biases else [[*s[:2], None, None, *s[2:]] for s in found]


def _cell(step: Step, states: int) -> Callable[..., Any]:
    """A fused cell as one step."""

    def run(x: Tensor, state: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
        weights = (w_ih, w_hh, b_ih, b_hh)
        new = step(_given(x, weights, step is _gru), tuple(state) if states > 1 else (state,), weights)
        return new if states > 1 else new[0]

    return run


_TANH, _RELU = _plain(torch.tanh), _plain(torch.relu)
LAYERS = {"lstm": _layers(_lstm, 2), "gru": _layers(_gru, 1), "rnn_tanh": _layers(_TANH, 1), "rnn_relu": _layers(_RELU, 1)}
CELLS = {"lstm_cell": _cell(_lstm, 2), "gru_cell": _cell(_gru, 1), "rnn_tanh_cell": _cell(_TANH, 1), "rnn_relu_cell": _cell(_RELU, 1)}
