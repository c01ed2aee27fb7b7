"""What the graph of a TorchScript network says of its output: which part of it comes from which operation."""

from __future__ import annotations

from typing import Any

from torch import nn

from pellucid.probe.rules.operation import ALIASES

PACKS = ("prim::TupleConstruct", "prim::ListConstruct", "prim::DictConstruct")
UNPACKS = ("prim::TupleIndex", "prim::TupleUnpack", "prim::ListUnpack", "aten::__getitem__")
NUMBERS = ("prim::NumToTensor", "aten::size", "aten::Int")


def part_of_output(module: nn.Module, path: tuple[Any, ...]) -> tuple[Any, Any]:
    """The graph, and the value that the network returns at a path of indices and keys; None where the graph does not say which that is."""
    graph: Any = module.inlined_graph
    outputs = [*graph.outputs()]
    value = outputs[0] if len(outputs) == 1 else None
    for step in path:
        value = None if value is None else _part(value, step)
    return graph, value


def operation(value: Any) -> tuple[str, list[Any], list[float]]:
    """The name of the operation that made a value, and the tensors and numbers that went into it: lists of tensors are opened, packs seen through.

    The name is empty where the graph does not say.
    """
    node = value.node()
    if node.kind() in UNPACKS:
        inside = _unpacked(value)
        if inside is not None:
            return operation(inside)
        if node.kind() != "prim::ListUnpack" and "Tensor" not in str(next(node.inputs()).type()).removeprefix("List[").removeprefix(
            "Optional["
        ):
            return "", [], []
    name = node.kind().rpartition("::")[2].rstrip("_")
    given: list[Any] = []
    numbers: list[float] = []
    for v in node.inputs():
        kind, known = str(v.type()), v.toIValue()
        if kind in ("Tensor[]", "List[Tensor]") and v.node().kind() == "prim::ListConstruct":
            given += [*v.node().inputs()]
        elif isinstance(known, (int, float)) and not isinstance(known, bool):
            numbers.append(known)
        elif "Tensor" in kind and "Optional" not in kind and v.node().kind() not in NUMBERS:
            given.append(v)
    return ALIASES.get(name, name), given, numbers


def _part(value: Any, step: Any) -> Any:
    """What a pack holds at an index or key; None where it is no pack, or holds no such thing."""
    node = value.node()
    inside = [*node.inputs()]
    if node.kind() == "prim::DictConstruct":
        return next((v for k, v in zip(inside[::2], inside[1::2], strict=True) if k.toIValue() == step), None)
    if node.kind() in PACKS and isinstance(step, int) and -len(inside) <= step < len(inside):
        return inside[step]
    return None


def _unpacked(value: Any) -> Any:
    """What was taken out of a pack, where the pack was made in the graph."""
    node = value.node()
    inside = [*node.inputs()]
    if node.kind() in ("prim::TupleUnpack", "prim::ListUnpack"):
        step: Any = [v.debugName() for v in node.outputs()].index(value.debugName())
    else:
        step = inside[1].toIValue()
    return _part(inside[0], step)
