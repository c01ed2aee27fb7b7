"""What the graph of a TorchScript network says of its output: which part of it comes from which operation."""

from __future__ import annotations

from typing import Any

from torch import nn

from pellucid.probe.rules.operation import ALIASES

PACKS = ("prim::TupleConstruct", "prim::ListConstruct", "prim::DictConstruct")
NUMBERS = ("prim::Constant", "prim::ListConstruct", "prim::NumToTensor", "aten::size", "aten::Int")


def part_of_output(module: nn.Module, path: tuple[Any, ...]) -> Any:
    """The graph with the value that the network returns at a path of indices and keys; None where the graph does not say which that is."""
    graph: Any = module.inlined_graph
    outputs = [*graph.outputs()]
    value = outputs[0] if len(outputs) == 1 else None
    for step in path:
        if value is None or value.node().kind() not in PACKS:
            return graph, None
        inside = [*value.node().inputs()]
        if value.node().kind() == "prim::DictConstruct":
            value = next((v for k, v in zip(inside[::2], inside[1::2], strict=True) if k.toIValue() == step), None)
        else:
            value = inside[step] if isinstance(step, int) and -len(inside) <= step < len(inside) else None
    return graph, value


def operation(value: Any) -> tuple[str, list[Any]]:
    """The name of the operation that made a value, and the tensors that went into it; lists of tensors are opened."""
    node = value.node()
    name = node.kind().rpartition("::")[2].rstrip("_")
    given: list[Any] = []
    for v in node.inputs():
        kind = str(v.type())
        if kind == "Tensor[]" or kind == "List[Tensor]":
            given += [*v.node().inputs()]
        elif "Tensor" in kind:
            given.append(v)
    return ALIASES.get(name, name), [v for v in given if v.node().kind() not in NUMBERS]
