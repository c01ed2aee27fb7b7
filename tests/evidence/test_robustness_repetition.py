"""The repetition check says what it found."""

from dataclasses import replace

import torch
from tests.evidence.toy import learned, positives

import pellucid as pl
from pellucid.evidence import examine


def test_fewer_steps_alone_do_not_make_the_same_map():
    net, x = learned(), positives(learned(), 1, 3)[0]
    why = pl.explain(net, x, 1, method="integrated_gradients", steps=64)
    own = examine(net, x, why)["repetition"]
    assert own.status == "pass" and "8 steps instead of 64" in own.text and "nearly the same" in own.text
    noise = torch.randn(why.values.shape, generator=torch.Generator().manual_seed(0))
    mixed = replace(why, values=why.values + 1.0 * why.values.std() * noise)
    found = examine(net, x, mixed)["repetition"]
    assert found.detail["steps"] == 64, "what fewer steps do not confirm is asked exactly"
    assert found.status != "pass" and "same map" not in found.text
    exact = pl.explain(net, x, 1, method="saliency")
    assert examine(net, x, exact)["repetition"].text == "Asked again, the method gives the same map."
