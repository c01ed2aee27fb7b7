"""Attention rollout."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from pellucid.errors import Unsupported
from pellucid.method import ACTIVATIONS, NOTHING, RULES, SHARES, Cite, Cost, Where, method
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.rules.attention import Watch, Weighing


@method(
    cite=Cite("Abnar, Zuidema", 2020, "Quantifying attention flow in transformers", "ACL", arxiv="2005.00928"),
    asks=RULES | ACTIVATIONS,
    gives=NOTHING,
    values=SHARES,
    cost=lambda **_: Cost(forward=1),
    where=Where.FEATURES,
    hears_target=False,
    needs_space=True,
    needs_attention=True,
)
def attention_rollout(probe: Probe, x: Float[Tensor, "c *space"], *, heads: Literal["mean", "max", "min"] = "mean") -> Drawn:
    """How much each patch is attended to from the end of a transformer, through all its layers.

    ``product over layers (last first) of (A + I) / 2``, A the attention probabilities of a layer (queries x keys), the product's row of the
    class token (its mean row where there is none); shape (1, *space) on the grid of the tokens, of at least 0, a share of 1 (what class
    and register tokens hold is missing).

    Args:
        heads: how heads become one matrix: their mean, as in the paper, or their largest or smallest value (rows are then divided by
            their sums, A + I taken together).

    Misleads when: taken as a reason: values, feed-forward layers and the head are not asked, so the map is the same for every target, and
        attention that cancels later counts in full. In deep networks it flattens or shows artifacts of tokens that hold no picture.

    Source: section 3.1, equation 1. The site says which tokens (and so which grid) are meant; all layers count. Networks without
        attention, attention in windows (Swin) or between different sets of tokens are refused.

    >>> import pellucid as pl, torch
    >>> from pellucid.testing import small_transformer, small_image
    >>> why = pl.explain(small_transformer(2), small_image(2), 1, method="attention_rollout")
    >>> why.values.shape, round(why.total, 6)
    (torch.Size([1, 6, 5]), 1.0)
    """
    place, watch = probe.question.place, Watch()
    assert place is not None
    probe.look(watch.rules(), probe.source)
    if not watch.seen:
        raise Unsupported("attention_rollout needs a network with attention", "one without", "Try 'grad_cam'.")
    if place.layout.kind != "tokens":
        got = f"{place.text!r}, whose cells are {place.layout.kind.replace('_', ' ')}"
        fix = "Name the output of a block; attention in windows (Swin) has none: try 'transformer_attribution'."
        raise Unsupported("attention_rollout needs a site of tokens that all attend to each other", got, fix)
    cells, skip = math.prod(x.shape[1:]), 0
    flow: Tensor | None = None
    for layer in watch.seen:
        tokens = _tokens(layer, len(x))
        skip = tokens - cells
        if not 0 <= skip < tokens or (flow is not None and len(flow) != tokens):
            got = f"attention among {tokens} in {layer.where!r}"
            raise Unsupported(f"attention among the {cells} tokens of {place.text!r} in every layer", got, "Try 'transformer_attribution'.")
        a = layer.probabilities.double()
        joined = {"mean": a.mean(0), "max": a.amax(0), "min": a.amin(0)}[heads] + torch.eye(tokens, dtype=a.dtype, device=a.device)
        step = joined / joined.sum(-1, keepdim=True)
        flow = step if flow is None else step @ flow
    assert flow is not None
    row = flow[0] if skip else flow.mean(0)
    values = place.layout.to_map(row.view([1, -1, 1] if place.layout.channel == 2 else [1, 1, -1]))[0]
    return probe.map(values, layers=len(watch.seen), other_tokens=1 - float(values.sum()))


def _tokens(layer: Weighing, channels: int) -> int:
    """How many tokens attend to each other."""
    heads, queries, keys = layer.probabilities.shape
    if queries != keys:
        got = f"{queries} that look at {keys} in {layer.where!r}"
        raise Unsupported("attention_rollout needs tokens that look at each other", got, "Try 'transformer_attribution'.")
    if heads * layer.width != channels:
        got = f"{heads} matrices of {queries} tokens with {layer.width} channels each in {layer.where!r}: attention in windows, or shared values"
        raise Unsupported(f"every layer attends among all tokens, its heads together {channels} channels wide", got, "Try 'grad_cam'.")
    return queries
