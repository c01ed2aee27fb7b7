"""The rules engine: one map for every spelling of a network, and a refusal by name of whatever no rule reaches."""

import gc
import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

import pellucid as pl
from pellucid.errors import NoRule
from pellucid.probe.rules.gates import gates

RULED = ("guided_backprop", "deconvnet")


class Spelled(nn.Module):
    """conv, act, pool, conv, act, conv, act, head; how activation and pooling are written is given."""

    def __init__(self, act=F.relu, pool=lambda z: F.max_pool2d(z, 2), wrap=lambda f, z: f(z)):
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.third, self.head = nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 3)
        self.act, self.pool, self.wrap = act, pool, wrap
        random = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=random) * 0.4)
        self.double().eval()

    def body(self, z):
        return self.act(self.second(z))

    def forward(self, x):
        z = self.pool(self.act(self.first(x)))
        z = self.wrap(self.body, z)
        z = z + self.act(self.third(z))
        return self.head(z.mean((2, 3)))


def image():
    return torch.rand(2, 10, 8, generator=torch.Generator().manual_seed(6), dtype=torch.float64)


def maps(net, x=None):
    return torch.stack([pl.explain(net, image() if x is None else x, 1, method=m).values for m in RULED])


@pytest.fixture(scope="module")
def plain():
    found = maps(Spelled())
    assert not torch.allclose(found[0], found[1]) and float(found.abs().min(0).values.max()) > 1e-4
    return found


def on_a_view(z):
    z = z.clone()
    F.relu(z.view(z.shape[0], -1), inplace=True)
    return z


def by_parts(z):
    z = z.clone()
    z[:, :2] = F.relu(z[:, :2])
    z[:, 2:].relu_()
    return z


def out_argument(z):
    return torch.cat([F.relu(part) for part in z.chunk(2, 1)], 1)


ACTS = {
    "functional": F.relu,
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "torch.relu": torch.relu,
    "method": lambda z: z.relu(),
    "method in place": lambda z: z.relu_(),
    "torch.relu_": torch.relu_,
    "functional in place": lambda z: F.relu(z, inplace=True),
    "functional relu_": F.relu_,
    "aten": torch.ops.aten.relu.default,
    "aten in place": torch.ops.aten.relu_.default,
    "clamp": lambda z: z.clamp(min=0),
    "clamp in place": lambda z: z.clamp_(min=0),
    "clamp_min": lambda z: torch.clamp_min(z, 0.0),
    "clip": lambda z: torch.clip(z, 0.0),
    "threshold": lambda z: F.threshold(z, 0.0, 0.0),
    "in place on a view": on_a_view,
    "part by part": by_parts,
    "chunks": out_argument,
    "then written into": lambda z: z.clamp(min=0).mul_(1.0),
    "then its input": lambda z: (F.leaky_relu(z, 0.0), z.mul_(0.0))[0],
    "permuted": lambda z: F.relu(z.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "leaky without slope": lambda z: F.leaky_relu(z, 0.0),
    "hardtanh from 0": lambda z: F.hardtanh(z, 0.0, 1e9),
}
POOLS = {
    "indices": lambda z: F.max_pool2d(z, 2, return_indices=True)[0],
    "module": nn.MaxPool2d(2),
    "module with indices": lambda z: nn.MaxPool2d(2, return_indices=True)(z)[0],
    "torch": lambda z: torch.max_pool2d(z, 2),
    "aten": lambda z: torch.ops.aten.max_pool2d.default(z, [2, 2]),
    "adaptive": lambda z: F.adaptive_max_pool2d(z, (5, 4)),
    "adaptive with indices": lambda z: F.adaptive_max_pool2d(z, (5, 4), return_indices=True)[0],
}
# amax shares a slope among equals, where a pool sends it to the first: another map wherever all of a window is 0
WRAPS = {
    "checkpoint": lambda f, z: checkpoint(f, z, use_reentrant=False),
    "checkpoint that re-enters": lambda f, z: checkpoint(f, z, use_reentrant=True),
    "no-op autocast": lambda f, z: _autocast(f, z),
}


def _autocast(f, z):
    with torch.autocast("cpu", enabled=False):
        return f(z)


@pytest.mark.parametrize("how", ACTS)
def test_an_activation_has_one_map_however_it_is_written(how, plain):
    assert torch.allclose(maps(Spelled(ACTS[how])), plain, atol=1e-12)


@pytest.mark.parametrize("how", POOLS)
def test_a_pool_has_one_map_however_it_is_written(how, plain):
    assert torch.allclose(maps(Spelled(pool=POOLS[how])), plain, atol=1e-12)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("how", WRAPS)
def test_wrapped_calls_keep_their_rules(how, plain):
    assert torch.allclose(maps(Spelled(wrap=WRAPS[how])), plain, atol=1e-12)
    assert torch.utils.checkpoint.CheckpointFunction.__name__ == "CheckpointFunction"  # it is there again


def test_data_parallel_is_unwrapped(plain):
    assert torch.equal(maps(nn.DataParallel(Spelled())), plain)


@pytest.mark.filterwarnings("ignore:.*LeafSpec")
@pytest.mark.parametrize("unflatten", [False, True])
def test_an_exported_program_gives_the_map_of_its_source(plain, unflatten):
    program = torch.export.export(Spelled(), (image()[None],))
    net = torch.export.unflatten(program) if unflatten else program.module()
    assert torch.allclose(maps(net), plain, atol=1e-12)


def test_scores_made_by_a_target_run_under_the_rules_too():
    net = Spelled()
    a = pl.explain(net, image(), lambda out: F.relu(out[:, 1] + 9.0), method="guided_backprop").values
    assert torch.allclose(a, maps(net)[0], atol=1e-12)
    b = pl.explain(net, image(), lambda out: -F.relu(out[:, 1] + 9.0), method="guided_backprop").values
    assert float(b.abs().max()) == 0.0  # a negative gradient does not pass the rectifier of the target


# ------------------------------------------------------------------------------------ refusals
class Hidden(torch.autograd.Function):
    @staticmethod
    def forward(ctx, z):
        ctx.save_for_backward(z)
        return z.clamp(min=0)

    @staticmethod
    def backward(ctx, g):
        return g * (ctx.saved_tensors[0] > 0)


class Scripted(nn.Module):
    def forward(self, z):
        return torch.relu(z)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cell = kind(4, 4, batch_first=True).double()

    def forward(self, z):
        return self.cell(z.flatten(2).transpose(1, 2))[0].transpose(1, 2).unflatten(2, z.shape[2:])


REFUSED = {
    "a comparison": (lambda z: z * (z > 0), "mul"),
    "a comparison of a copy": (lambda z: z * (z.detach() > 0).double(), "mul"),
    "where": (lambda z: torch.where(z > 0, z, torch.zeros_like(z)), "where"),
    "sign": (lambda z: z * (z.sign() + 1) / 2, "sign"),
    "masked in place": (lambda z: z.masked_fill(z < 0, 0.0), "masked_fill"),
    "an index of itself": (lambda z: z.clone().index_put_((z < 0,), z.new_zeros(())), "index_put"),
    "a function of its own": (Hidden.apply, "Hidden"),
    "TorchScript": (torch.jit.script(Scripted()), "Relu"),
    "LSTM": (Recurrent(nn.LSTM), "lstm in 'act.cell'"),
    "GRU": (Recurrent(nn.GRU), "gru in 'act.cell'"),
    "vmap": (torch.vmap(F.relu), "Relu"),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("how", REFUSED)
def test_what_no_rule_reaches_is_refused_by_name(how):
    act, name = REFUSED[how]
    for method in RULED:
        with pytest.raises(NoRule, match=name):
            pl.explain(Spelled(act), image(), 1, method=method)


def test_an_output_that_the_rules_change_is_refused(monkeypatch):
    """The first lock: here a rule that gives other values than the operation."""
    home = importlib.import_module("pellucid.attribution.guided_backprop")  # the package's attribute of this name is the method

    def wrong(name, **settings):
        rules = gates(name, **settings)
        rules.table["relu"] = lambda op, z: z.clamp_min(0.01)
        return rules

    monkeypatch.setattr(home, "gates", wrong)
    with pytest.raises(NoRule, match="differs by"):
        pl.explain(Spelled(), image(), 1, method="guided_backprop")


def test_a_rule_is_told_only_what_it_knows():
    class Odd(nn.Module):
        def forward(self, z):
            return torch.clamp(z, torch.zeros_like(z))  # limits that are tensors: the table knows numbers

    with pytest.raises(NoRule, match="clamp in 'act'"):
        pl.explain(Spelled(Odd()), image(), 1, method="guided_backprop")


def test_modules_are_named_and_left_without_hooks():
    class Inner(nn.Module):
        def forward(self, z):
            return z * (z > 0)

    net = Spelled(nn.Sequential(nn.Identity(), Inner()))
    with pytest.raises(NoRule, match=r"mul in 'act\.1'"):
        pl.explain(net, image(), 1, method="deconvnet")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in net.modules())


class WrittenOver(nn.Module):
    """Activations are written over by a rectifier and by a sum, as residual networks do."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
        self.act, self.head = nn.ReLU(inplace=True), nn.Linear(4, 3)

    def forward(self, x):
        z = self.act(self.norm(self.first(x)))
        y = self.second(z)
        y += z
        return self.head(self.act(y).mean((2, 3)))


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "excitation_backprop", "deeplift", "lrp", "deep_taylor"])
def test_nothing_of_a_pass_stays_in_memory(method):
    """A graph that leads back to itself through an operand written over is seen by no garbage collector."""
    torch.manual_seed(0)
    net, x = WrittenOver().double().eval(), torch.rand(2, 9, 8, dtype=torch.float64)

    def alive():
        pl.explain(net, x, 1, method=method)
        gc.collect()
        return sum(type(o) is torch.Tensor for o in gc.get_objects())

    alive()
    first = alive()
    assert max(alive() for _ in range(3)) <= first
