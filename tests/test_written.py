"""What is written of a value tells it from any other: targets, steps and networks are kept, joined and remembered by that text."""

import copy
import dataclasses
import functools
import io
import operator
import os
import pathlib
import queue
import random
import subprocess
import sys
import threading
import time
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

import pellucid as pl
from pellucid.errors import BadParameter
from pellucid.model import Model
from pellucid.written import structure, written

LEVEL = 1


def scorer(k):
    return lambda out: out[:, k]


def of_level(out):
    return out[:, LEVEL]


class Step:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, image):
        return image.with_values(image.values * self.factor)


@dataclass(frozen=True)
class Setting:
    table: np.ndarray


@pytest.mark.parametrize(
    "make",
    [
        scorer,
        lambda k: functools.partial(torch.sum, dim=k),
        lambda k: Step(float(k)),
        lambda k: Step(float(k)).__call__,
        lambda k: Setting(np.full((2, 2), k)),
        lambda k: torch.full((3,), float(k)),
        lambda k: {"a": [k, (k, torch.zeros(k + 1))]},
        lambda k: lambda out, which=k: out[:, which],
        lambda k: pl.region(1, mask=torch.arange(4).view(2, 2) > k),
        lambda k: pl.Image(torch.full((1, 2, 2), float(k))),
        lambda k: (torch.relu, torch.cos)[k],
    ],
)
def test_equal_values_have_one_text_and_others_another(make):
    assert written(make(0)) == written(make(0)) != written(make(1))


def test_what_a_function_looks_up_belongs_to_it(monkeypatch):
    before = written(of_level)
    monkeypatch.setitem(globals(), "LEVEL", 0)
    assert written(of_level) != before


@pytest.mark.parametrize("make", [threading.Lock, io.BytesIO])
def test_what_cannot_be_looked_into_is_like_nothing_else(make):
    first, second = make(), make()
    assert written(first) == written(first) != written(second)


class Config:
    def __init__(self, scale):
        self.scale = scale

    def get(self):
        return CONFIG.scale

    def __repr__(self):
        return "Config()"


CONFIG = Config(1.0)


class Named(nn.Module):
    """Its forward says ``self.net``, and a global of that name is the network itself; children know their parent; hooks are the parent's own."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Tanh())
        self.net[0].owner, self.net[0].back = [self], self.scale
        self.net[1].register_forward_hook(self.keep)
        self.random = random.Random(0)

    def keep(self, module, args, out):
        return None

    def scale(self):
        return CONFIG.get()

    def forward(self, x):
        return self.net(x).mean((2, 3)) * self.scale()


def test_circles_of_all_kinds_end_and_nothing_is_needed_to_draw_a_map(monkeypatch):
    network = Named()
    monkeypatch.setitem(globals(), "net", network)
    assert structure(network) == structure(network)
    assert "Named" in written(network)
    before, x = pl.explain(network, torch.rand(1, 8, 8), 1, method="saliency"), torch.rand(1, 8, 8)
    assert bool(before.values.any())
    network.meta = torch.empty(3, device="meta")
    network.deep = functools.reduce(lambda deep, _: [deep, deep], range(40), [])
    chain = None
    for _ in range(3000):
        chain = [chain]
    network.chain = chain
    assert structure(network) == structure(network)
    assert bool(pl.explain(network, x, 1, method="grad_cam", relu=False, site="net").values.any())


def test_what_is_large_costs_little_and_is_like_nothing_else():
    many = [(k, str(k)) for k in range(100_000)]
    huge = np.zeros(2**26)
    began = time.process_time()
    assert written(many) != written(list(many))
    assert written(huge) != written(huge.copy())
    assert time.process_time() - began < 5


def test_settings_that_the_code_names_count_every_time(monkeypatch):
    step, network = Step(1.0), Net()
    texts = {written(of_level), written(CONFIG.get), structure(network)}
    monkeypatch.setitem(globals(), "LEVEL", 7)
    monkeypatch.setattr(CONFIG, "scale", 3.0)  # its repr does not tell
    monkeypatch.setattr(Net, "forward", lambda self, x: self.head(self.conv(x).mean((2, 3))))
    texts |= {written(of_level), written(CONFIG.get), structure(network)}
    assert len(texts) == 6
    before = written(step)
    monkeypatch.setattr(Step, "__call__", lambda self, image: image)
    assert written(step) != before


def test_defaults_given_by_name_count():
    def made(k):
        def score(out, *, which=k):
            return out[:, which]

        return score

    assert written(made(0)) != written(made(1))


def test_nothing_is_written_as_nothing():
    assert written(None) == ""


def test_a_circle_ends():
    step = Step(1.0)
    step.again = step
    assert "Step" in written(step)


class Node:
    def __init__(self, name):
        self.name, self.near = name, set()


def ring(n, swap=False):
    """Nodes of which each has all others in a set."""
    nodes = [Node(k) for k in range(n)]
    for node in nodes:
        node.near = {x for x in (nodes[::-1] if swap else nodes) if x is not node}
    return nodes[0]


def nest(depth):
    inner = frozenset()
    for _ in range(depth):
        inner = frozenset({inner, (inner,)})
    return inner


def test_sets_of_each_other_end_soon():
    """In members of sets the bounds and the open circle hold that hold outside of them."""
    began = time.process_time()
    assert written(ring(3)) == written(ring(3, swap=True)) != written(ring(4))
    assert written(nest(20)) == written(nest(20)) != written(nest(21))
    assert len(written(nest(60))) < 2**14
    assert written(ring(40)) != written(ring(40))
    assert written({(k, k) for k in range(100_000)}).startswith("<set number")
    assert time.process_time() - began < 5


ACROSS = """
import abc, functools, logging, operator, typing
from collections import namedtuple
import numpy as np, torch
from torch import nn
from pellucid.written import numbered, structure, written

log, Out = logging.getLogger("mine"), namedtuple("Out", "logits")
MAYBE = int | None

class Field(typing.NamedTuple):
    logits: torch.Tensor

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.power = nn.Conv2d(1, 2, 3), 2.0
    def forward(self, x):
        return self.conv(x).mean((2, 3)) ** self.power

class Logs(Plain):
    def forward(self, x):
        log.debug("shape %s", x.shape)
        return super().forward(x)

class Tuples(Plain):
    def forward(self, x):
        return Field(Out(super().forward(x)).logits)

class Abstract(abc.ABC, Plain):
    pass

class Cached(Plain):
    @functools.cached_property
    def scale(self):
        return 2.0

class Draws(Plain):
    def __init__(self):
        super().__init__()
        self.random = torch.Generator().manual_seed(3)

draw = np.random.default_rng(0)
class Noise(Plain):
    def forward(self, x):
        return super().forward(x + draw.normal() if isinstance(x, MAYBE) else x)

scripted = torch.jit.script(Plain().eval())
traced = torch.jit.trace(Plain().eval(), torch.zeros(1, 1, 8, 8))
nets = [Logs(), Tuples(), Abstract(), Cached(), Draws(), Noise(), nn.LSTM(2, 2), scripted, torch.jit.freeze(scripted), traced]
nets += [nn.Sequential(scripted), torch.fx.symbolic_trace(Plain())]
values = [log, Out(1), MAYBE, list[int], torch.Size([2]), torch.Generator().manual_seed(1), draw, np.random.RandomState(2), {frozenset({"a", log}), "b"}]
values += [operator.itemgetter(1), operator.attrgetter("logits"), operator.methodcaller("mean", dim=1)]
torch.manual_seed(0)
with numbered() as passing:
    print(*map(structure, nets), *map(written, values), sep="\\n")
assert not passing, passing
"""


def test_another_process_writes_the_same(tmp_path):
    (tmp_path / "tells.py").write_text(ACROSS)
    found = [
        subprocess.run(
            [sys.executable, tmp_path / "tells.py"], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed}
        ).stdout.splitlines()
        for seed in "12"
    ]
    assert found[0] == found[1]
    assert len(set(found[0])) == len(found[0])


Pair, Couple = namedtuple("Pair", "a b"), namedtuple("Couple", "a b")


class Scripts(nn.Module):
    def __init__(self, power=2.0, sign=1, shift=0.0):
        super().__init__()
        self.power, self.sign, self.shift = power, sign, shift
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return x * self.weight * self.sign**self.power + self.shift


def script(constant=1.0, **more):
    class Own(nn.Module):
        def forward(self, x):
            return x + self.held

    net = Scripts(**more)
    if not more:
        net = Own()
        net.held = torch.full((64,), constant)  # an attribute that is no parameter
    return torch.jit.script(net.eval())


def moved(draw):
    draw.random(3)
    return draw


@pytest.mark.parametrize(
    "values",
    [
        lambda: [operator.itemgetter(0), operator.itemgetter(1), operator.attrgetter("a"), operator.methodcaller("a")],
        lambda: [int | None, int | str, list[int], list[str]],
        lambda: [Pair(1, 2), Pair(2, 1), Couple(1, 2), (1, 2)],
        lambda: [torch.Generator().manual_seed(k) for k in range(2)],
        lambda: [np.random.default_rng(0), moved(np.random.default_rng(0)), np.random.RandomState(0), np.random.RandomState(1)],
        lambda: [random.Random(0), random.Random(1), moved_python()],
        lambda: [script(), script(2.0), torch.jit.freeze(script()), torch.jit.freeze(script(2.0))],
        lambda: [script(power=2.0), script(power=3.0), script(sign=-1), script(shift=1.0)],
        lambda: [torch.jit.script(plus), torch.jit.script(minus)],
    ],
)
def test_what_c_code_keeps_counts(values):
    texts = [written(v) for v in values()]
    assert len(set(texts)) == len(texts)
    assert texts == [written(v) for v in values()]
    assert not any(" number " in t for t in texts)


def test_a_chain_of_steps_is_told_without_the_generator_that_it_does_not_draw_from():
    home = pytest.importorskip("monai.transforms")
    one, same, other = (home.Compose([home.ScaleIntensity(0.0, top)]) for top in (1.0, 1.0, 2.0))
    assert written(one) == written(same) != written(other)
    assert written(home.OneOf([one, other])) != written(home.OneOf([one, other]))  # it draws from its own


def moved_python():
    draw = random.Random(0)
    draw.random()
    return draw


def plus(x: torch.Tensor) -> torch.Tensor:
    return x + 1


def minus(x: torch.Tensor) -> torch.Tensor:
    return x - 1


def test_a_script_that_has_run_is_the_same_network():
    net = script(power=2.0)
    before = structure(net)
    for _ in range(3):
        net(torch.ones(2))
    assert structure(net) == before
    with torch.no_grad():
        net.weight.mul_(2)
    assert structure(net) == before


# ----------------------------------------------------------------------------------------------------------------- networks
class Net(nn.Module):
    def __init__(self, act=torch.relu, flip=False):
        super().__init__()
        self.act, self.flip = act, flip
        self.conv, self.head = nn.Conv2d(1, 4, 4, stride=4), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.act(self.conv(x.flip(3) if self.flip else x)).mean((2, 3)))


def changes():
    def surgery(net):
        net.conv = nn.Conv2d(1, 4, 7, stride=4, padding=3)

    return {
        "act": lambda net: setattr(net, "act", torch.cos),
        "flip": lambda net: setattr(net, "flip", True),
        "surgery": surgery,
        "hook": lambda net: net.conv.register_forward_hook(lambda m, a, o: o + 1),
        "stride": lambda net: setattr(net.conv, "stride", (2, 2)),
    }


@pytest.mark.parametrize("change", changes().values(), ids=changes())
def test_a_network_that_was_edited_is_another_network(change):
    net = Net()
    before = structure(net)
    assert structure(net) == structure(Net()) == before
    with torch.no_grad():
        net.conv.weight.mul_(2)
    assert structure(net) == before  # weights are told by the fingerprint
    change(net)
    assert structure(net) != before


SOURCE = """
from torch import nn
SCALE = {scale}
def last(x):
    return x * SCALE {more}
class Own(nn.Module):
    power = {power}
    def forward(self, x):
        return last(x.flatten(1)[:, :2]) ** self.power
"""


def test_the_code_that_forward_names_belongs_to_the_network():
    """A file that was edited between two processes: functions, settings and attributes of classes, same weights, same class, same forward."""

    def net(scale=1.0, more="", power=1):
        home = {"__name__": "net"}
        exec(SOURCE.format(scale=scale, more=more, power=power), home)
        return home["Own"]()

    assert structure(net()) == structure(net())
    assert len({structure(n) for n in (net(), net(scale=2.0), net(more="+ 1"), net(power=2))}) == 4


def test_what_a_library_does_is_told_by_its_version():
    assert written(lambda out: F.softmax(out, 1)) == written(lambda out: F.softmax(out, 1)) != written(lambda out: F.softmin(out, 1))


@pytest.mark.parametrize("change", ["flip", "surgery", "stride"])
def test_a_map_of_an_edited_network_lies_where_that_of_a_fresh_one_does(change):
    net, x = Net(), torch.rand(1, 16, 16)
    pl.explain(net, x, 1, method="hires_cam", site="conv")
    changes()[change](net)
    fresh = Net()
    changes()[change](fresh)
    fresh.load_state_dict(net.state_dict())
    asked, told = (pl.explain(n, x, 1, method="hires_cam", site="conv") for n in (net, fresh))
    assert asked.grid == told.grid
    assert torch.equal(asked.values, told.values)


def test_a_write_through_data_changes_the_fingerprint():
    net = Model(Net())
    before = net.fingerprint
    net.module.conv.weight.data.mul_(2.0)
    assert net.fingerprint != before


def test_a_map_is_not_measured_with_weights_that_came_after_it():
    net, x = Net(), torch.rand(1, 16, 16)
    why = pl.explain(net, x, 1, method="saliency")
    net.load_state_dict(Net().state_dict())
    with pytest.raises(BadParameter, match="weights changed before they were hashed"):
        pl.grade(net, x, {"saliency": why}, ["gini"])


# ------------------------------------------------------------------------------------------------------------------ targets
def dense():
    return nn.Conv2d(1, 2, 3, padding=1)


def test_targets_that_look_alike_stay_apart():
    """Two masks, two closures of one factory: compare answers each as explain does."""
    net, x = dense(), torch.rand(1, 8, 8)
    left, right = torch.zeros(8, 8, dtype=torch.bool), torch.zeros(8, 8, dtype=torch.bool)
    left[:, :3], right[:, 5:] = True, True
    for net_, a, b in ((net, pl.region(1, mask=left), pl.region(1, mask=right)), (Net(), scorer(0), scorer(1))):
        image = x if net_ is net else torch.rand(1, 16, 16)
        found = pl.compare(net_, image, "saliency", target=[a, b])
        assert [m.values.tolist() for m in found.maps] == [pl.explain(net_, image, t, method="saliency").values.tolist() for t in (a, b)]
        mixed = pl.compare(net_, image, [pl.ask("saliency", target=a), pl.ask("input_x_gradient", target=b)])
        assert torch.equal(mixed.maps[0].values, found.maps[0].values)


# ------------------------------------------------------------------------------------------- what others hold stays their own
class WritesIntoItsInput(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.in_place, self.conv, self.head = in_place, nn.Conv2d(1, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        x = x.sub_(0.5).div_(0.25) if self.in_place else (x - 0.5) / 0.25
        return self.head(F.relu(self.conv(x)).mean((2, 3)))


QUICK = {
    "saliency": {},
    "integrated_gradients": {"steps": 3},
    "occlusion": {"window": "4px", "stride": "4px"},
    "rise": {"masks": 8, "cells": 3},
    "smooth": {"n": 2},
    "grad_cam": {},
    "score_cam": {},
    "lrp": {},
    "deeplift": {},
    "guided_backprop": {},
    "conductance": {"steps": 3},
}


@pytest.mark.parametrize("target", [None, 1])
@pytest.mark.parametrize("method", QUICK)
def test_a_network_that_writes_into_its_input_changes_neither_map_nor_image(method, target):
    writes, reads = WritesIntoItsInput(True), WritesIntoItsInput(False)
    reads.load_state_dict(writes.state_dict())
    x = torch.rand(1, 10, 10)
    kept = x.clone()
    asked, told = (pl.explain(n, x, target, method=method, **QUICK[method]) for n in (writes, reads))
    assert torch.equal(x, kept)
    assert torch.allclose(asked.values, told.values, atol=1e-6)
    assert asked.score == pytest.approx(told.score)


def test_a_map_keeps_the_image_that_it_explains():
    buffer = torch.rand(1, 10, 10)
    why = pl.explain(WritesIntoItsInput(False), buffer, 1, method="saliency")
    kept = buffer.clone()
    buffer.zero_()
    assert torch.equal(why.image.values, kept)
    assert why.image.fingerprint == why.provenance.image


def test_a_stranger_on_the_same_network_is_not_disturbed():
    """While one thread plants activations, another's own forward pass gives what it always gives."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2)).eval()
    x, y, inside, done = torch.rand(1, 10, 10), torch.rand(1, 1, 10, 10), threading.Event(), threading.Event()
    with torch.no_grad():
        expected, found = net(y), []

    def slow(module, args, out):  # the explaining thread waits in the middle of its first pass over planted activations
        if threading.get_ident() != home and len(out) >= 1 and not inside.is_set() and calls.append(1) is None and len(calls) > 2:
            inside.set()
            done.wait(5)

    calls, home = [], threading.get_ident()
    net[0].register_forward_pre_hook(lambda module, args: slow(module, args, args[0]))
    maps = []
    worker = threading.Thread(target=lambda: maps.append(pl.explain(net, x, 1, method="ablation_cam", site="1")))
    worker.start()
    assert inside.wait(20)
    with torch.no_grad():
        found.append(net(y))
    done.set()
    worker.join()
    assert torch.equal(found[0], expected)
    assert torch.allclose(maps[0].values, pl.explain(net, x, 1, method="ablation_cam", site="1").values, atol=1e-6)


def test_rules_in_two_threads_leave_checkpointing_as_it_was():
    """The second comes under rules while the first is, and leaves after it."""
    import torch.utils.checkpoint as home

    before = home.CheckpointFunction, home._checkpoint_without_reentrant_generator
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    class Waits(nn.Module):
        def __init__(self, steps):
            super().__init__()
            self.head, self.steps, self.calls = nn.Linear(16, 2), steps, 0

        def forward(self, x):
            for tell, wait in self.steps.get(self.calls, ()):  # call 0 is the plain pass, call 1 the one under rules
                (tell.set if tell else wait.wait)(*() if tell else (20,))
            self.calls += 1
            return self.head(x.flatten(1))

    first = Waits({1: [(first_in, None), (None, second_in)]})
    second = Waits({0: [(None, first_in)], 1: [(second_in, None), (None, first_out)]})
    threads = [
        threading.Thread(target=pl.explain, args=(n, torch.rand(1, 4, 4), 1), kwargs={"method": "guided_backprop"}) for n in (first, second)
    ]
    for t in threads:
        t.start()
    threads[0].join()
    first_out.set()
    threads[1].join()
    assert min(first.calls, second.calls) >= 3  # and once more, to see that the network is steady
    assert (home.CheckpointFunction, home._checkpoint_without_reentrant_generator) == before


@pytest.mark.parametrize("make", [np.float32, np.int64, lambda i: np.datetime64(i, "D"), lambda i: iter([i]), lambda i: (np.float16(i),)])
def test_what_is_gone_lends_its_text_to_nothing_else(make):
    assert not any(written(make(i)) == written(make(i + 1)) for i in range(50))


def test_numbers_of_numpy_are_told_by_kind_and_value():
    assert written(np.float32(2)) == written(np.float32(2)) != written(np.float64(2)) != written(np.float32(3))
    assert written(np.zeros(2, np.float32)) != written(np.zeros(2, np.int32))
    assert written(np.dtype("f4")) == written(np.dtype("float32")) != written(np.dtype("f8"))


class Slotted:
    __slots__ = ("a",)

    def __init__(self, a):
        self.a = a


def test_slots_and_hooks_before_a_pass_belong_to_the_text():
    assert written(Slotted(1)) == written(Slotted(1)) != written(Slotted(2))
    net = nn.Sequential(nn.Linear(2, 2))
    plain = structure(net)
    handle = net.register_forward_pre_hook(lambda m, args: (args[0] * 2,))
    doubled = structure(net)
    handle.remove()
    net.register_forward_pre_hook(lambda m, args: (args[0] * 3,))
    assert len({plain, doubled, structure(net)}) == 3


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_a_copy_of_a_recurrent_network_is_the_same(layer):
    net = nn.Sequential(layer(2, 3, num_layers=2))
    saved = io.BytesIO()
    torch.save(net, saved)
    saved.seek(0)
    for same in (copy.deepcopy(net), torch.load(saved, weights_only=False)):
        assert structure(same) == structure(net) and Model(same).identity == Model(net).identity
    other = nn.Sequential(layer(2, 3, num_layers=2, bidirectional=True))
    assert structure(other) != structure(net)
    with torch.no_grad():
        net[0].weight_ih_l1.mul_(2)
    assert Model(net).identity != Model(same).identity


def test_a_network_is_the_same_while_it_runs():
    seen = queue.SimpleQueue()  # what a closure holds belongs to the network, but for what cannot be looked into

    class Looking(nn.Module):
        def forward(self, x):
            seen.put(structure(net))
            return x

    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), Looking(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    before = structure(net)
    for method in ("grad_cam", "lrp", "saliency"):
        pl.explain(net, torch.rand(1, 8, 8), 1, method=method)
    assert not seen.empty() and {seen.get() for _ in range(seen.qsize())} == {before} == {structure(net)}


@dataclasses.dataclass(frozen=True)
class Foreign:
    folder: pathlib.Path
    key: str


def test_what_a_strangers_settings_hold_is_not_shown():
    secret = Foreign(pathlib.Path("/home/x/DOE_JANE"), "SECRET")
    assert "DOE" not in written(secret) and "SECRET" not in written(secret)
    assert written(secret) == written(dataclasses.replace(secret)) != written(dataclasses.replace(secret, key="OTHER"))
    assert written(pl.Normalize(0.5, 0.25)) == "Normalize(mean=0.5, std=0.25)"


class Holds(nn.Module):
    """A network that keeps a value in one of the ways there are."""

    def __init__(self, how, value):
        super().__init__()
        value = torch.full((3,), float(value))
        if how == "parameter":
            self.kept = nn.Parameter(value)
        elif how in ("buffer", "passing buffer"):
            self.register_buffer("kept", value, persistent=how == "buffer")
        elif how == "list":
            self.kept = [nn.PReLU(3, init=float(value[0]))]
        else:
            self.kept = value

    def forward(self, x):
        return x


@pytest.mark.parametrize("how", ["parameter", "buffer", "passing buffer", "attribute", "list"])
def test_all_that_a_network_computes_with_is_in_its_identity(how):
    one, again, other = (Model(Holds(how, v)) for v in (1, 1, 2))
    assert one.identity == again.identity != other.identity
    if "buffer" in how:
        assert one.fingerprint != other.fingerprint
        one.module.kept.fill_(2)
        assert one.fingerprint == other.fingerprint


class Titled(dict):
    def __init__(self, title, **held):
        super().__init__(**held)
        self.title = title


class Properties:
    def __init__(self, level):
        self.level = level


class Doubles(Properties):
    @property
    def value(self):
        return self.level * 2

    @staticmethod
    def of():
        return 1


class Triples(Properties):
    @property
    def value(self):
        return self.level * 3

    @staticmethod
    def of():
        return 1


def test_what_a_mapping_of_ones_own_holds_and_how_a_property_reckons_count():
    assert written(Titled("a", x=1)) == written(Titled("a", x=1)) != written(Titled("b", x=1)) != written(Titled("b", x=2))
    Triples.__qualname__ = Triples.__name__ = "Doubles"
    assert written(Doubles(1)) != written(Triples(1))
    a, b = torch.zeros(2), torch.ones(2)
    assert written(a.add) == written(a.add) != written(b.add)
    assert written(torch.channels_last) == written(torch.channels_last) != written(torch.contiguous_format)
    assert " number " not in written([torch.strided, torch.finfo(torch.float32)])
