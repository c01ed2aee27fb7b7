"""The contract, over the registry: a method that is added is tested."""

import multiprocessing
import pickle
from dataclasses import replace

import pytest
import torch

import pellucid as pl
from pellucid.method import GRADIENTS, REGISTRY, SIGNED, Cite, Cost, method, methods
from pellucid.testing import CHECKS, check_method

QUICK = {  # the same method, fewer passes; a method that is not listed runs with its defaults
    "integrated_gradients": {"steps": 32},
    "blur_ig": {"steps": 10},
    "expected_gradients": {"samples": 24},
    "guided_ig": {"steps": 12},
    "influential_neurons": {"k": 2, "inner": "integrated_gradients(steps=6)"},
    "internal_influence": {"steps": 8},
    "extremal_perturbation": {"steps": 6, "areas": [0.1, 0.3]},
    "kernel_shap": {"segments": "slic(16)", "samples": 60},
    "lime": {"segments": "slic(12)", "samples": 40},
    "meaningful_perturbation": {"steps": 8, "jitter": "2px"},
    "occlusion": {"window": "3px", "stride": "2px"},
    "pattern_attribution": {"data": "random(3)"},
    "pattern_net": {"data": "random(3)"},
    "rise": {"masks": 40, "cells": 3},
    "smooth": {"n": 6},
    "xrai": {"segments": "slic(9)"},
}
METHODS = {m.name: m(**QUICK.get(m.name, {})) for m in methods()}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_contract(name, dims, check):
    method = REGISTRY[name] if check == "sums_to_the_change" and name == "blur_ig" else METHODS[name]  # completeness is a matter of steps
    if dims in method.facts.space:
        CHECKS[check](method, dims)


def _sent(data):
    method = pickle.loads(data)
    return repr(method), method.facts.cost.__module__


def test_every_method_travels_to_a_spawned_process():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for name, (text, _) in zip(METHODS, pool.map(_sent, [pickle.dumps(m) for m in METHODS.values()]), strict=True):
            assert text == repr(METHODS[name])


def test_the_contract_catches_a_method_that_cheats():
    """Rescaling a gradient to the right sum, and eating the global random state, must not pass."""

    @method(cite=Cite("Nobody", 2026, "None", "nowhere"), asks=GRADIENTS, gives=SIGNED, cost=lambda **_: Cost(2, 1))
    def cheat(probe, x):
        """One sentence.

        Misleads when: always.

        Source: none.

        >>> 1
        1
        """
        torch.rand(1)
        return probe.map(probe.local().gradient)

    try:
        with pytest.raises(AssertionError, match="passes"):
            check_method(cheat)
        with pytest.raises(AssertionError, match="random"):
            CHECKS["is_seeded"](replace(cheat, declared=replace(cheat.declared, random=True)), 2)
    finally:
        del REGISTRY["cheat"]


def test_every_method_is_lifted_to_the_top():
    assert [n for n in METHODS if getattr(pl, n, None) != REGISTRY[n]] == []
