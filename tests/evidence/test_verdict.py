"""The verdict on networks that learned, on networks that did not, and on maps that are not what they say."""

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from tests.evidence.toy import fresh, learned, positives
from torch import Tensor

import pellucid as pl
from pellucid.evidence import examine
from pellucid.evidence.verdict import verdict
from pellucid.explanation import Evidence, Measurement
from pellucid.method import GRADIENTS, REGISTRY, SIGNED, Cite, Cost, method
from pellucid.ops.edges import sobel
from pellucid.probe.probe import Drawn, Probe

N = {2: 8, 3: 4}


def verdicts(dims: int, kind: str) -> Counter:
    found: Counter = Counter()
    for i, x in enumerate(positives(learned(dims), N[dims], 11, dims)):
        net = fresh(100 + i, dims) if kind == "untrained" else learned(dims)
        why = pl.explain(net, x, 1)
        if kind == "edges":
            why = replace(why, values=sobel(x)[None].float())
        if kind == "random":
            why = replace(why, values=torch.randn(why.values.shape, generator=torch.Generator().manual_seed(i)))
        found[examine(net, x, why).verdict] += 1
    return found


@pytest.mark.parametrize("dims", [2, 3])
def test_what_was_learned_is_supported(dims):
    found = verdicts(dims, "trained")
    assert found["supported"] >= 0.75 * N[dims] and not found["void"], found


@pytest.mark.parametrize(("dims", "kind"), [(2, "untrained"), (3, "untrained"), (2, "edges"), (2, "random")])
def test_what_was_not_learned_or_is_no_explanation_is_not_supported(dims, kind):
    found = verdicts(dims, kind)
    assert found["not supported"] >= 0.75 * N[dims], found


def test_an_empty_map_is_void():
    x = positives(learned(), 1, 11)[0]
    why = pl.explain(learned(), x, 1, method="saliency")
    for values in (torch.zeros_like(why.values), torch.full_like(why.values, 0.3), torch.full_like(why.values, math.nan)):
        assert examine(learned(), x, replace(why, values=values)).verdict == "void"


def test_a_network_that_does_not_look_is_void():
    class Blind(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = fresh(0)

        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([[0.0, 1.0]]).expand(len(x), 2) + 0.0 * self.inner(x)

    x = positives(learned(), 1, 11)[0]
    why = pl.explain(learned(), x, 1, method="saliency")
    assert examine(Blind(), x, why).verdict == "void"


def test_a_map_that_ignores_the_upper_layers_fails_randomization():
    def first_layer(probe: Probe, x: Tensor) -> Drawn:
        """Edges of the image, by the first layer alone."""
        net = probe.engine.model.module
        z = net[0](x[None])[0].abs().sum(0)
        own = torch.nn.functional.interpolate(z[None, None], x.shape[1:])[0]
        return probe.map(own * probe.local().gradient.abs().max())

    made = method(cite=Cite("nobody", 2026, "", ""), asks=GRADIENTS, gives=SIGNED, cost=lambda **_: Cost(1, 1))(first_layer)
    try:
        x = positives(learned(), 1, 11)[0]
        ev = pl.explain(learned(), x, 1, method=made, evidence="quick").evidence
    finally:
        del REGISTRY["first_layer"]
    assert ev["repetition"].status == "pass" and ev["randomization"].status == "fail" and ev.verdict == "not supported"
    rows = ev["randomization"].detail["stages"]
    assert all(0 < r["blocks"] <= 4 for r in rows), "the network itself is no stage"
    assert ev["randomization"].value == pytest.approx(
        sum(abs(r["signed"]) for r in rows if r["blocks"] == 4) / sum(r["blocks"] == 4 for r in rows)
    )


def test_standard_has_a_cascade_and_two_draws():
    x = positives(learned(), 1, 11)[0]
    ev = examine(learned(), x, pl.explain(learned(), x, 1, steps=16), "standard")
    rows = ev["randomization"].detail["stages"]
    assert len({r["blocks"] for r in rows}) == 4 and len(rows) == 8
    assert len({r["signed"] for r in rows if r["blocks"] == 4}) == 2, "two draws are two networks"
    assert ev.verdict == "supported" and len(ev["deletion"].detail["curve"]) == 12
    assert ev.reasons and all(r.endswith(".") for r in ev.reasons)


def test_quick_is_cheap_and_says_what_it_cost():
    x = positives(learned(), 1, 11)[0]
    ev = pl.explain(learned(), x, 1, evidence="quick").evidence
    spent = {m.name: m.detail["passes"] for m in ev if "passes" in m.detail}
    spent.pop("insertion")
    assert sum(spent.values()) <= 300, spent


def test_evidence_travels_with_the_map(tmp_path):
    from pellucid.explanation import load

    x = positives(learned(), 1, 11)[0]
    why = pl.explain(learned(), x, 1, evidence="quick")
    again = load(why.save(tmp_path / "why.npz"))
    assert again.evidence.verdict == why.evidence.verdict and again.evidence.reasons == why.evidence.reasons
    assert again.evidence["deletion"].value == pytest.approx(why.evidence["deletion"].value)


def finding(name: str, status: str) -> Measurement:
    return Measurement(name, 0.0, "", "up", status, f"{name} {status}.")


@pytest.mark.parametrize(
    ("statuses", "word"),
    [
        ("pass pass pass pass pass pass", "supported"),
        ("pass pass pass inconclusive pass inconclusive", "supported"),
        ("fail pass pass pass pass pass", "not supported"),
        ("pass fail pass pass pass pass", "not supported"),
        ("pass pass fail pass pass pass", "not supported"),
        ("pass pass pass fail inconclusive pass", "not supported"),
        ("pass pass pass inconclusive inconclusive pass", "questionable"),
        ("pass pass inconclusive pass pass pass", "questionable"),
        ("pass pass pass pass pass fail", "not supported"),
        ("pass pass pass void pass pass", "void"),
    ],
)
def test_rules(statuses, word):
    names = ("repetition", "learned_response", "randomization", "deletion", "insertion", "beyond_edges")
    found = [finding(n, s) for n, s in zip(names, statuses.split(), strict=True)]
    assert verdict(found)[0] == word
    assert Evidence("quick", tuple(found))["deletion"].name == "deletion"
