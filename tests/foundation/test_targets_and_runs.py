import math
import pickle
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.errors import BadModel, BadParameter, BadTarget, Cancelled, OutOfMemory
from pellucid.method import REGISTRY, read_method
from pellucid.run import Plan, Run, measured
from pellucid.target import read_target
from pellucid.testing import small_image, small_net

NAMES = ("healthy", "mild", "severe")


def score(target, **model):
    net = small_net(2)
    return pl.explain(pl.Model(net, classes=NAMES, **model), small_image(2), target, method="saliency").score


def outputs():
    return small_net(2).eval()(small_image(2)[None])[0].detach()


def test_the_algebra_scores_and_keeps_its_name():
    z = outputs().tolist()
    target = pl.logit("severe") - 0.5 * pl.logit("mild")
    assert score(target) == pytest.approx(z[2] - 0.5 * z[1])
    assert repr(target) == "logit('severe') - 0.5 * logit('mild')"
    assert repr(read_target(repr(target))) == repr(target)
    assert score(-pl.logit(0)) == pytest.approx(-z[0])


def test_probabilities_follow_the_kind_of_output():
    z = outputs()
    assert score(pl.probability("mild")) == pytest.approx(float(z.softmax(0)[1]))
    assert score(pl.probability("mild"), output="multi-label") == pytest.approx(float(z[1].sigmoid()))
    assert score("mild") == pytest.approx(float(z[1]))  # a name means the logit


class Ends(nn.Module):
    def __init__(self, net, how):
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x):
        return self.how(self.net(x))


def test_single_logit_stands_for_a_mirrored_pair():
    net = Ends(small_net(2), lambda z: z[:, 1:2])
    z = float(outputs()[1])
    model = pl.Model(net, classes=("no", "yes"))
    whys = pl.explain(model, small_image(2), ["no", "yes"], method="saliency")
    assert [w.score for w in whys] == pytest.approx([-z, z])
    assert sum(whys[0].probabilities) == pytest.approx(1)
    assert whys[1].probabilities[1] == pytest.approx(float(torch.tensor(z).sigmoid()))


@pytest.mark.parametrize("ends", ["softmax", "sigmoid"])
def test_a_net_that_ends_in_probabilities_is_explained_before_them(ends):
    net = Ends(small_net(2), (lambda z: z.softmax(1)) if ends == "softmax" else torch.sigmoid)
    plain = pl.explain(small_net(2), small_image(2), pl.logit(2) - pl.logit(0), method="saliency")
    why = pl.explain(pl.Model(net, ends_in=ends), small_image(2), pl.logit(2) - pl.logit(0), method="saliency")
    assert torch.allclose(why.values, plain.values, rtol=1e-5)


@pytest.mark.parametrize(
    "select, wrap", [(1, lambda z: (z * 0, z)), ("logits", lambda z: {"logits": z}), (("out", 0), lambda z: {"out": [z]})]
)
def test_outputs_in_tuples_and_dicts(select, wrap):
    model = pl.Model(Ends(small_net(2), wrap), select=select)
    assert torch.equal(
        pl.explain(model, small_image(2), 1, method="saliency").values,
        pl.explain(small_net(2), small_image(2), 1, method="saliency").values,
    )


def segmenter():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1)).double()


def test_region_of_a_segmentation():
    net, x = segmenter(), small_image(2)
    z = net(x[None])[0].detach()
    mask = torch.zeros(12, 10)
    mask[2:5, 3:6] = 1
    why = pl.explain(net, x, pl.region(1, mask), method="saliency")
    assert why.score == pytest.approx(float(z[1][mask > 0].mean()))
    assert "mask=" in repr(why.ask.target)
    assert repr(why.ask.target) != repr(pl.explain(net, x, pl.region(1, mask.T.reshape(12, 10)), method="saliency").ask.target)
    # the predicted region is frozen on the image itself, not found again at each step
    k = int(z.argmax(0).flatten().mode().values)
    won = z.argmax(0) == k
    frozen = pl.explain(net, x, pl.region(k, of="probability", how="sum"), method="integrated_gradients", steps=64)
    assert frozen.score == pytest.approx(float(z.softmax(0)[k][won].sum()))
    assert abs(frozen.trace["gap"]) < 0.02 * abs(frozen.trace["change"])


class Channels(nn.Module):
    """A dense output that is its input: channel k of the image is the score of class k."""

    def forward(self, x):
        return 1.0 * x


@pytest.mark.parametrize("shape", [(6, 5), (3, 4, 5)])
@pytest.mark.parametrize("often", [1, 2, 3])
def test_the_predicted_class_of_a_segmentation_is_the_one_seen_most_apart_from_the_background(often, shape):
    """Of 4 classes the background (0) wins nearly everywhere, ``often`` on 5 samples and the others on 2 each."""
    counts = {k: 5 if k == often else 2 for k in (1, 2, 3)}
    flat = torch.zeros(4, math.prod(shape), dtype=torch.float64)
    flat[0] = 1.0
    at = 0
    for k, n in counts.items():
        flat[k, at : at + n] = 2.0 + 0.1 * torch.arange(n)
        at += n
    why = pl.explain(pl.Model(Channels(), classes=("none", "first", "second", "third")), flat.view(4, *shape), method="saliency")
    assert why.provenance.target.startswith(f"region({('none', 'first', 'second', 'third')[often]!r}")
    assert why.score == pytest.approx(2.2), "the mean of 2.0 to 2.4"
    assert torch.equal(why.values.abs().sum(0).flatten() > 0, flat.argmax(0) == often), "where it wins, and nowhere else"


def test_a_mask_smaller_than_the_image_is_empty_beyond_its_edges():
    """A mask that touches the edge of its own small field does not go on outside of it."""
    from pellucid.grid import Grid
    from pellucid.image import Image

    x = Image(small_image(2), Grid.spaced((12, 10), (1, 1)))
    given = Image(torch.ones(1, 4, 4), x.grid.crop((2, 3), (6, 7)))
    why = pl.explain(Channels(), x, pl.region(1, given, how="sum"), method="saliency")
    assert why.score == pytest.approx(float(x.values[1, 2:6, 3:7].sum()))
    assert why.provenance.target.split(":")[1].startswith("16,"), "of 120 samples"


def test_a_mask_on_another_grid_is_laid_over_the_image():
    from pellucid.grid import Grid
    from pellucid.image import Image

    net, x = segmenter(), Image(small_image(2), Grid.spaced((12, 10), (1, 1)))
    fine = torch.zeros(1, 24, 20)
    fine[:, 4:10, 6:12] = 1
    given = Image(fine, x.grid.resize((24, 20)))
    coarse = torch.zeros(12, 10)
    coarse[2:5, 3:6] = 1
    a = pl.explain(net, x, pl.region(1, given), method="saliency")
    assert torch.equal(a.values, pl.explain(net, x, pl.region(1, coarse), method="saliency").values)


def test_neurons_and_channels_are_targets():
    net, x = small_net(2), small_image(2)
    kept = {}
    handle = net.second.register_forward_hook(lambda m, a, o: kept.update(z=o.detach().clone()))
    net.eval()(x[None])
    handle.remove()
    net.train()
    assert pl.explain(net, x, pl.neuron("second", (2, 3, 4)), method="saliency").score == pytest.approx(float(kept["z"][0, 2, 3, 4]))
    assert pl.explain(net, x, pl.channel("second", 2), method="saliency").score == pytest.approx(float(kept["z"][0, 2].mean()))


@pytest.mark.parametrize(
    "target, says",
    [
        (7, "0 to 2"),
        ("sever", "Did you mean 'severe'"),
        (lambda out: out, "Did you mean logit"),
        (pl.region("mild"), "dense"),
        (-1, "0 to"),
    ],
)
def test_wrong_targets_name_the_way_out(target, says):
    with pytest.raises(BadTarget, match=says):
        score(target)


def test_several_targets_share_their_forward_passes():
    net, x, seen = small_net(2), small_image(2), []
    net.register_forward_hook(lambda m, a, o: seen.append(len(o)))
    run = Run(chunk=4)
    whys = pl.explain(net, x, [0, 1, 2], method="integrated_gradients", steps=8, run=run)
    assert sum(seen) <= 8 + 2 + 3  # not three times that; two samples are checked alone, and the image is asked twice
    for k, why in enumerate(whys):
        assert torch.allclose(why.values, pl.explain(net, x, k, method="integrated_gradients", steps=8).values)


def test_several_images_fill_common_chunks_and_answer_as_one_by_one():
    net, seen = small_net(2), []
    xs = [small_image(2, s) for s in range(9)]
    alone = [pl.explain(net, x, 1, method="saliency").values for x in xs]
    net.register_forward_hook(lambda m, a, o: seen.append(len(o)))
    together = pl.explain(net, xs, 1, method="saliency")
    assert max(seen) >= 5
    assert all(torch.allclose(t.values, a) for t, a in zip(together, alone, strict=True))


def test_chunks_are_planned_from_measured_peaks():
    plan = Plan(torch.device("cpu"), Run(memory=10_000))
    assert plan.size == 1
    plan.peaks[1] = 2_000
    assert plan.size == 2
    plan.peaks[2] = 3_000
    assert plan.size == 9  # 1000 fixed, 1000 each
    large = Plan(torch.device("cpu"), Run(memory=2**40), {1: 2**30, 2: 2**31})
    assert large.size == 2  # as a pair, however much memory there is
    assert Plan(torch.device("cpu"), Run(memory=2**30), large.peaks).size == 1
    wide = Plan(torch.device("cpu"), Run(memory=2**40), {1: 2**24, 2: 2**25}, largest=2**23)
    assert wide.size == 3  # four of 8 MiB side by side would be mapped and faulted in anew by each operation


def test_nothing_of_torch_is_imported_to_compile():
    code = "import sys, torch, pellucid as pl; pl.explain(torch.nn.Flatten(), torch.rand(1, 3, 3), 1, method='occlusion', window='1px', stride='1px')"
    done = subprocess.run(
        [sys.executable, "-c", code + "; print('torch._dynamo' in sys.modules)"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


def test_a_pass_that_cannot_fit_is_refused_before_the_machine_kills_it(monkeypatch):
    monkeypatch.setattr("pellucid.run.free_memory", lambda device: 4_000_000)
    with pytest.raises(OutOfMemory, match="must fit"), measured(torch.device("cpu")):
        [torch.zeros(1000, 300) for _ in range(8)]


def test_running_out_of_memory_halves_the_chunk():
    net, tried = small_net(2), []

    def greedy(module, args, out):
        tried.append(len(out))
        if len(out) > 3:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")

    net.register_forward_hook(greedy)
    why = pl.explain(net, small_image(2), 1, method="integrated_gradients", steps=16, run=Run(chunk=12))
    assert max(tried) == 12
    assert torch.allclose(why.values, pl.explain(small_net(2), small_image(2), 1, method="integrated_gradients", steps=16).values)


def test_cancel_from_another_thread():
    run, seen = Run(chunk=1), threading.Event()
    run = Run(chunk=1, on_tick=lambda done, total: (seen.set(), run.cancel.set()) if done >= 3 else None)
    with pytest.raises(Cancelled, match="passes done"):
        pl.explain(small_net(2), small_image(2), 1, method="integrated_gradients", steps=64, run=run)
    assert seen.is_set()


def test_progress_tells_the_declared_total():
    ticks = []
    pl.explain(small_net(2), small_image(2), 1, steps=8, run=Run(chunk=3, on_tick=lambda d, t: ticks.append((d, t))))
    assert ticks[-1] == (10, 10)
    assert [d for d, _ in ticks] == sorted(d for d, _ in ticks)


def test_methods_are_values():
    m = pl.integrated_gradients(steps=8, baseline="black_and_white")
    assert repr(read_method(repr(m))) == repr(m)
    assert pickle.loads(pickle.dumps(m)) == m
    with pytest.raises(BadParameter, match="step"):
        pl.integrated_gradients(step=8)
    with pytest.raises(BadParameter, match="whole number"):
        pl.integrated_gradients(steps=0)
    with pytest.raises(BadParameter, match="Did you mean 'saliency'"):
        read_method("salency")
    with pytest.raises(BadParameter, match="Nothing else"):
        read_method("saliency(absolute=__import__('os').system('true'))")
    assert all(not (set(m.params) & {"target", "site", "method", "run", "evidence"}) for m in REGISTRY.values())


def test_weights_that_change_before_they_are_hashed_are_not_vouched_for():
    net = small_net(2)
    why = pl.explain(net, small_image(2), 1, method="saliency")
    with torch.no_grad():
        net.head.bias += 1
    assert why.provenance.weights.startswith("unknown")
    again = pl.explain(net, small_image(2), 1, method="saliency")
    assert len(again.provenance.weights) == 64


def test_passes_are_counted_per_explanation_also_side_by_side():
    asks = [pl.ask("integrated_gradients", steps=8, target=k) for k in (0, 1)] + [pl.ask("saliency", target=2)]
    seen = []
    net = small_net(2)
    net.register_forward_hook(lambda m, a, o: seen.append(len(o)))
    whys = pl.explain(net, [small_image(2), small_image(2, 5)], asks)
    assert [(w.provenance.forward, w.provenance.backward) for w in whys] == [(10, 8), (10, 8), (1, 1)] * 2
    assert [w.provenance.target for w in whys] == ["logit(0)", "logit(1)", "logit(2)"] * 2
    assert sum(seen) <= 2 * (10 + 1) + 4  # both targets of one image share forward passes


def test_every_classifier_map_tells_all_probabilities():
    z = outputs().softmax(0).tolist()
    for name in ("saliency", "integrated_gradients(steps=2)", "occlusion(window='4px')", "rise(masks=2)", "grad_cam", "smooth(n=2)"):
        assert pl.explain(small_net(2), small_image(2), 1, method=name).probabilities == pytest.approx(z), name


def test_a_class_by_a_number_as_its_name():
    net, x = small_net(2), small_image(2)
    named = pl.Model(net, classes=("1", "2", "0"))
    assert pl.explain(named, x, read_target("1"), method="saliency").provenance.target == "logit('1')"
    assert torch.equal(pl.explain(named, x, read_target("1"), method="saliency").values, pl.explain(net, x, 0, method="saliency").values)
    assert pl.explain(net, x, read_target("2"), method="saliency").provenance.target == "logit(2)"
    assert pl.explain(named, x, 1, method="saliency").provenance.target == "logit('2')"


@pytest.mark.parametrize("ends_in", [None, "softmax", "sigmoid"])
@pytest.mark.parametrize("output", [None, "logits", "multi-label", "single logit", "segmentation", "regression"])
def test_probabilities_are_the_networks_own_or_the_words_contradict_each_other(output, ends_in):
    shape = {"single logit": (1, 1), "segmentation": (1, 3, 4, 4)}.get(output, (1, 3))
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    several = "softmax" if output in ("logits", "segmentation", None) else "sigmoid"
    own = {"softmax": z.softmax(1), "sigmoid": z.sigmoid()}[ends_in or several]
    agree = {"softmax": (None, "logits", "segmentation"), "sigmoid": (None, "multi-label", "single logit", "segmentation")}
    if ends_in is not None and output not in agree[ends_in]:
        with pytest.raises(BadModel, match="that agree"):
            pl.Model(nn.Identity(), output=output, ends_in=ends_in)
        return
    model = pl.Model(nn.Identity(), output=output, ends_in=ends_in)
    if output == "regression":
        return
    told = model.reading.of(own, 2 if output == "segmentation" else 0).probabilities(own if ends_in else z)
    assert torch.allclose(told, own, atol=1e-5)
