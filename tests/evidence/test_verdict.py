"""The verdict on networks that learned, on networks that did not, on maps that are not what they say, and on methods with a fault."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from tests.evidence.toy import fresh, learned, positives
from torch import Tensor, nn

import pellucid as pl
from pellucid.evidence import examine
from pellucid.evidence.verdict import verdict
from pellucid.explanation import Evidence, Measurement
from pellucid.method import GRADIENTS, REGISTRY, SIGNED, Cite, Cost, Method, method
from pellucid.ops.edges import sobel
from pellucid.probe.probe import Drawn, Probe

N = {2: 6, 3: 4}


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
    assert found["supported"] >= 0.6 * N[dims] and not found["void"] and not found["not supported"], found


@pytest.mark.parametrize("dims", [2, 3])
def test_what_was_not_learned_is_not_supported(dims):
    found = verdicts(dims, "untrained")
    assert found["supported"] <= 1 and not found["void"], found  # one network in twenty answers more strongly than its copies by chance


@pytest.mark.parametrize("kind", ["edges", "random"])
def test_what_is_no_explanation_is_not_supported(kind):
    found = verdicts(2, kind)
    assert found["not supported"] >= 0.75 * N[2], found


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda v: v,
    "inverted": lambda v: -v,
    "mirrored": lambda v: v.flip(-1),
    "shifted": lambda v: v.roll([n // 3 for n in v.shape[1:]], list(range(1, v.ndim))),
    "permuted": lambda v: v.flatten(1)[:, torch.randperm(v[0].numel(), generator=torch.Generator().manual_seed(1))].view_as(v),
}


def with_fault(fault: Callable[[Tensor], Tensor]) -> Method:
    def faulty(probe: Probe, x: Tensor) -> Drawn:
        """Integrated gradients with a fault."""
        return probe.map(fault(pl.integrated_gradients(steps=8).answer(probe, x).values))

    return Method(faulty, pl.input_x_gradient.declared, {}, {})


def test_a_method_with_a_fault_of_sign_or_place_is_not_supported():
    """Every other pillar holds for any function of the weights: these methods repeat themselves, and their maps change with the weights."""
    found: dict[str, list[str]] = {}
    for name, fault in FAULTS.items():
        given = [pl.explain(learned(), x, 1, method=with_fault(fault), evidence="quick").evidence for x in positives(learned(), 4, 11)]
        assert all(e["repetition"].status == e["randomization"].status == "pass" for e in given)
        found[name] = [e.verdict for e in given]
    assert found.pop("none").count("supported") >= 3
    assert all("supported" not in given for given in found.values()), found


def test_a_perfect_map_is_not_condemned_for_what_was_not_shown():
    """The score is the sum over a square of noise: shuffled copies answer to it as strongly, which shows nothing against the map."""
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        w = torch.zeros(1, 32, 32)
        r, c = torch.randint(2, 24, (2,), generator=g).tolist()
        w[:, r : r + 6, c : c + 6] = 1.0
        net = nn.Sequential(nn.Flatten(), nn.Linear(1024, 2, bias=False))
        net[1].weight.data = torch.stack([-w.flatten(), w.flatten()])
        x = torch.rand((1, 32, 32), generator=g)
        ev = pl.explain(net, x, 1, method="integrated_gradients", baseline="blurred(4)", steps=8, evidence="quick").evidence
        answer = ev["learned_response"]
        assert ev["beyond_chance"].status == "pass" and answer.detail["p"] > 0.05
        assert answer.status == "inconclusive" and answer.text.startswith("Not shown")
        assert ev.verdict == "questionable" and ev.reasons == (answer.text,), ev.reasons


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
    net = Blind()
    why = pl.explain(net, x, 1, method="saliency")
    found = examine(net, x, replace(why, values=torch.rand(why.values.shape, generator=torch.Generator().manual_seed(0))))
    assert found.verdict == "void"
    assert found["learned_response"].value == 1.0 and found["learned_response"].status == "fail"


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
    assert ev.verdict == "supported" and len(ev["deletion"].detail["curve"]) == 12 and len(ev["beyond_chance"].detail["random"]) == 39
    assert ev.reasons and all(r.endswith(".") for r in ev.reasons)


def test_quick_is_cheap_and_says_what_it_cost():
    x = positives(learned(), 1, 11)[0]
    ev = pl.explain(learned(), x, 1, evidence="quick").evidence
    spent = {m.name: m.detail["passes"] for m in ev if "passes" in m.detail}
    spent.pop("insertion")
    assert sum(spent.values()) <= 505, spent


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
        ("pass pass pass pass pass", "supported"),
        ("pass pass pass pass inconclusive", "supported"),
        ("fail pass pass pass pass", "not supported"),
        ("pass fail pass pass pass", "not supported"),
        ("pass pass fail pass pass", "not supported"),
        ("pass pass pass fail pass", "not supported"),
        ("pass inconclusive pass pass pass", "questionable"),
        ("pass pass inconclusive pass pass", "questionable"),
        ("pass pass pass inconclusive pass", "questionable"),
        ("pass pass pass pass fail", "not supported"),
        ("pass pass pass void pass", "void"),
    ],
)
def test_rules(statuses, word):
    names = ("repetition", "learned_response", "randomization", "beyond_chance", "beyond_edges")
    alone = [finding("deletion", "pass"), finding("insertion", "fail")]  # one curve alone decides nothing
    found = [*alone, *(finding(n, s) for n, s in zip(names, statuses.split(), strict=True))]
    assert verdict(found)[0] == word
    assert Evidence("quick", tuple(found))["deletion"].name == "deletion"
    assert verdict([m for m in found if m.name != "beyond_chance"])[0] != "supported"
