"""TCAV: closed forms, level and power on a trained network, content instead of names, one image, refusals."""

import threading

import numpy as np
import pytest
import torch
from tests.concepts.conftest import pictures
from torch import nn

import pellucid as pl
from pellucid.activations import gather
from pellucid.concepts import ConceptBank, ConceptRow, Sensitivity, cav, tcav
from pellucid.concepts.ranking import cavs, weigh
from pellucid.concepts.vectors import Span, slopes_of
from pellucid.errors import BadImage, BadModel, BadParameter, BadSite, BadTarget, Cancelled
from pellucid.run import Run


def flat(dims, seed=0):
    torch.manual_seed(seed)
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    return nn.Sequential(conv(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4**dims, 3)).eval()


def noise(n, seed=0, dims=2, size=6, bright=0.0):
    chance = torch.Generator().manual_seed(seed)
    return [torch.rand(1, *[size] * dims, generator=chance) + bright for _ in range(n)]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("how", ["pattern", "logistic", "ridge", "sgd"])
def test_a_linear_head_gives_its_weights_times_the_direction(dims, how):
    net = flat(dims)
    bank = ConceptBank.of({"bright": noise(6, 0, dims, bright=0.5)}, random=noise(60, 1, dims))
    scans = noise(7, 2, dims)
    found = tcav(net, bank, scans, 1, sites="1", direction=how, randoms=9)
    assert found.pool == "none"
    compass = found.compasses["bright", "1"]
    w = net[3].weight[1].detach().numpy()
    for s in found.sensitivities(net, scans[3]):
        assert s.value == pytest.approx(float(w @ compass.directions[0]), rel=1e-4)
    row = found.rows[0]
    rows = np.stack([net[:2](x[None])[0].flatten().detach().numpy() for x in (*bank["bright"].scans, *bank.random.scans)])
    each = [s for s in row.null if s not in (0.0, 1.0)]
    assert row.score in {k / 9 for k in range(10)} or row.score == pytest.approx(round(row.score * 9) / 9)
    assert all(v == pytest.approx(round(v * 9) / 9) for v in each), "every single direction scores 0 or 1"
    if how == "pattern":
        means = [rows[:6].mean(0)]
        assert row.effect == pytest.approx(float(w @ (means[0] - _others(rows, found, bank))), rel=1e-3)


def _others(rows, found, bank):
    """Mean of the random sets that were drawn, from the counterparts of the same seed."""
    from pellucid.concepts.counterparts import draw

    drawn = draw(bank["bright"], bank.random, 9, 0)
    assert len(drawn.own) == 6
    return np.mean([rows[6 + s].mean(0) for s in drawn.sets], axis=0)


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_pooled_direction_is_a_step_of_all_cells(pool):
    """S by finite differences of the head, all cells moved alike."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3), nn.Tanh(), nn.Flatten(), nn.Linear(27, 2)).double().eval()
    bank = ConceptBank.of({"bright": noise(6, 0, size=7, bright=0.5)}, random=noise(120, 1, size=7))
    found = tcav(net, bank, noise(4, 2, size=7), 0, sites="1", pool=pool)
    x = noise(1, 5, size=7)[0].double()
    v = torch.from_numpy(found.compasses["bright", "1"].directions[0]).double()[:, None, None]
    with torch.no_grad():
        a = net[:2](x[None])
        slow = (net[2:](a + 1e-4 * v)[0, 0] - net[2:](a - 1e-4 * v)[0, 0]) / 2e-4
    assert found.sensitivities(net, x)[0].value == pytest.approx(float(slow), rel=1e-4)


def test_a_mask_counts_its_cells_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 2, stride=2), nn.Flatten(), nn.Linear(48, 2)).eval()
    scans = noise(40, 0, size=8)
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[2:4, 4:8] = True  # cells (1, 2) and (1, 3), whole
    other = torch.zeros(8, 8, dtype=torch.bool)
    other[7, 0] = True
    bank = ConceptBank.of({"c": scans[:6]}, random=scans[6:], masks={"c": [mask] * 6, "random": [other] * 34})
    from pellucid.concepts.vectors import rows_of

    rows = rows_of(pl.Model(net), [bank["c"], bank.random], "0", "mean", None, Run())
    a = net[0](torch.stack(scans)).detach()
    assert np.allclose(rows[:6], a[:6, :, 1, 2:4].mean(-1), atol=1e-6)
    assert np.allclose(rows[6:], a[6:, :, 3, 0], atol=1e-6)
    with pytest.raises(BadParameter, match="masked examples are pooled"):
        tcav(net, bank, scans[:3], 0, sites="0", pool="none")


def test_level_and_power_on_a_trained_network(trained, difference):
    """300 null concepts: sets of images without anything in common; and 60 times the planted one. TCAV's own t-test beside it."""
    plain, spots = pictures(400, False, 0), pictures(60, True, 5000)
    rows = np.array(gather(trained, [*plain, *spots], "3", pool="none").rows)
    span = Span.of(rows)
    slopes = slopes_of(trained, pictures(30, True, 6000), "3", difference, span, "none", Run())
    rng = np.random.default_rng(0)
    null, power, theirs = [], [], []
    from pellucid.concepts.ranking import classical

    for k in range(360):
        drawn = rng.permutation(400)[:300].reshape(20, 15)
        if k >= 300:
            drawn = np.concatenate([400 + rng.permutation(60)[None, :15], drawn[1:]])
        found = weigh(cavs(span.coordinates, list(drawn), "pattern", 0), slopes)
        (null if k < 300 else power).append(found.p)
        if k < 300:
            theirs.append(classical(found.pairs))
    rejected = np.mean(np.array(null) <= 0.05 + 1e-9)
    assert rejected < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert np.mean(np.array(power) <= 0.05 + 1e-9) > 0.9
    assert np.mean(np.array(theirs) < 0.05) > 0.3, "the t-test over runs that share images is no test"


def test_the_planted_concept_is_found_and_stripes_are_not(trained, difference):
    bank = ConceptBank.of(
        {"spot": pictures(12, True, 100), "stripes": pictures(12, False, 200, stripes=True)}, random=pictures(240, False, 1000)
    )
    found = tcav(trained, bank, pictures(30, True, 3000), [difference], sites=["1", "3"], randoms=30)
    assert [r.concept for r in found] == ["spot", "stripes"] * 2
    spot = found.row("spot", "3")
    assert spot.verdict == "raises" and spot.score > 0.9 and spot.p == 1 / 21 and spot.accuracy > 0.7
    assert 0.3 < spot.random < 0.7 and spot.random_range[0] < spot.random_range[1]
    assert spot.sentence.startswith("Spot raised the") and "random concepts" in spot.sentence and "30 images" in spot.sentence
    assert found.row("stripes", "3").verdict in ("no more than random", "not told apart")
    assert [r.t_bonferroni for r in found] == pytest.approx([min(1, 4 * r.t_p) for r in found])
    assert all(r.p_holm >= r.p and r.t_holm >= r.t_p for r in found)
    assert len(found.table()) == 4 and found.evidence.verdict == "supported" and len(found.evidence) == 4
    assert found.report_concepts("3")[0]["name"] == "spot"
    from pellucid.report.related import Concept

    shown = Concept(**found.report_concepts("3")[0])
    assert shown.effect == spot.effect and len(shown.examples) == 4
    said = found.provenance.as_dict()
    assert (
        said["site"] == "1, 3" and said["weights"] == trained.fingerprint and said["forward"] == 2 * (264 + 30) and said["backward"] == 60
    )


@pytest.mark.parametrize("how", ["logistic", "ridge"])
def test_other_directions_find_it_too(trained, difference, how):
    bank = ConceptBank.of({"spot": pictures(8, True, 100)}, random=pictures(152, False, 1000))
    found = tcav(trained, bank, pictures(20, True, 3000), difference, sites="3", direction=how, randoms=19)
    assert found.rows[0].verdict == "raises" and found.rows[0].score > 0.8


def test_a_null_concept_is_dropped_and_said_so(trained, difference):
    bank = ConceptBank.of({"nothing": pictures(10, False, 100)}, random=pictures(190, False, 1000))
    found = tcav(trained, bank, pictures(20, True, 3000), difference, sites="3")
    row = found.rows[0]
    assert row.verdict == "not told apart" and row.accuracy_p > 0.05
    assert row.sentence.startswith("Nothing is said of nothing") and found.report_concepts() == []


def test_too_few_random_sets_are_said(trained, difference):
    bank = ConceptBank.of({"spot": pictures(10, True, 100)}, random=pictures(95, False, 1000))
    found = tcav(trained, bank, pictures(20, True, 3000), difference, sites="3", randoms=9)
    assert found.rows[0].verdict == "too few random sets" and found.rows[0].p >= 0.1 and "9 random sets" in found.sentences()[0]


def test_a_concept_against_the_union_of_the_others(trained, difference):
    sets = {
        "spot": pictures(12, True, 100),
        "stripes": pictures(12, False, 200, stripes=True),
        "plain": pictures(12, False, 300, stripes=False),
    }
    found = tcav(trained, ConceptBank.of(sets), pictures(30, True, 3000), difference, sites="3", relative=True, randoms=99)
    spot = found.row("spot")
    assert spot.against == "the others" and spot.verdict == "raises" and spot.p == 0.01 and np.isnan(spot.t_p)
    rows = gather(trained, [s for e in found.bank.concepts for s in e.scans], "3", pool="none").rows.astype(float)
    slow = cav(rows[:12], rows[12:])
    assert float(found.compasses["spot", "3"].directions[0] @ slow) == pytest.approx(1, abs=1e-4)
    with pytest.raises(BadImage, match="two concepts"):
        tcav(trained, ConceptBank.of({"spot": sets["spot"]}, random=pictures(20, False, 1000)), pictures(3, True, 3000), 1, relative=True)
    with pytest.raises(BadImage, match="random images to hold concepts against"):
        tcav(trained, ConceptBank.of(sets), pictures(3, True, 3000), 1)


def test_other_images_of_the_same_name_give_another_result(trained, difference, tmp_path):
    random, scans = pictures(190, False, 1000), pictures(12, True, 3000)
    one, other = (ConceptBank.of({"c": pictures(10, spot, 100)}, random=random) for spot in (True, False))
    first = tcav(trained, one, scans, difference, sites="3", folder=tmp_path)
    second = tcav(trained, other, scans, difference, sites="3", folder=tmp_path)
    assert abs(first.rows[0].score - second.rows[0].score) > 0.05 and first.bank.fingerprint != second.bank.fingerprint
    assert first.provenance.image != second.provenance.image
    passes = []
    again = tcav(trained, one, scans, difference, sites="3", folder=tmp_path, run=Run(on_tick=lambda done, total: passes.append(total)))
    assert again.rows == first.rows and set(passes) == {12}, "only the class's images pass again"


def test_one_image_at_a_time_by_the_same_network(trained, difference):
    bank = ConceptBank.of({"spot": pictures(10, True, 100)}, random=pictures(190, False, 1000))
    found = tcav(trained, bank, pictures(20, True, 3000), difference, sites="3")
    scan = pictures(1, True, 4000)[0]
    (one,) = found.of_image(trained, scan)
    assert one.value > one.high and one.beyond and one.effect > 0 and one.verdict == "raises"
    assert one.sentence == "In this image too: a step toward spot raises the score of spot over plain, more than random concepts do (at 3)."
    assert found.sensitivities(trained, scan, "plain")[0].target == "plain"
    changed = pl.Model(nn.Sequential(*trained.module, nn.Identity()), classes=trained.classes)
    with pytest.raises(BadModel, match="concepts of this network; got one of network"):
        found.sensitivities(changed, scan)
    with pytest.raises(BadImage, match="an activation of the tested shape"):
        found.sensitivities(trained, torch.rand(1, 16, 16))


def test_patients_on_both_sides_are_told_and_intervals_count_them(trained, difference):
    who = {"spot": [f"p{i}" for i in range(10)], "random": [f"r{i}" for i in range(190)]}
    bank = ConceptBank.of({"spot": pictures(10, True, 100)}, random=pictures(190, False, 1000), patients=who)
    scans = pictures(20, True, 3000)
    found = tcav(trained, bank, scans, difference, sites="3", patients=[f"p{i // 4}" for i in range(20)])
    assert "5 patients are both in the concepts and among the images asked about" in found.notes
    alone = tcav(trained, bank, scans, difference, sites="3")
    assert not alone.notes
    assert found.rows[0].high - found.rows[0].low > alone.rows[0].high - alone.rows[0].low
    twice = tcav(trained, bank, [*scans[:4], bank["spot"].scans[0]], difference, sites="3")
    assert "1 images are both in the concepts" in twice.notes[0]


def test_same_seed_same_result_and_the_network_stays_as_it_was(trained, difference):
    bank = ConceptBank.of({"spot": pictures(10, True, 100)}, random=pictures(130, False, 1000))
    scans, before = pictures(8, True, 3000), torch.get_rng_state()
    results = [tcav(trained, bank, scans, difference, sites="3", run=Run(seed=s, chunk=c)).rows for s, c in ((1, None), (1, 3), (2, None))]
    assert results[0][0].score == results[1][0].score and results[0][0].null != results[2][0].null
    assert torch.equal(before, torch.get_rng_state())


def test_cancel():
    net, stop = flat(2), threading.Event()
    bank = ConceptBank.of({"c": noise(6)}, random=noise(60, 1))
    run = Run(cancel=stop, chunk=1, on_tick=lambda done, total: stop.set() if done > 2 else None)
    with pytest.raises(Cancelled):
        tcav(net, bank, noise(5, 2), 0, sites="1", run=run)


def test_images_of_another_size_need_pooling():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    bank = ConceptBank.of({"c": noise(6, bright=1.0)}, random=noise(120, 1))
    assert tcav(net, bank, noise(4, 2, size=9), 0, sites="1").pool == "mean"
    with pytest.raises(BadImage, match="activations of one shape"):
        tcav(net, bank, noise(4, 2, size=9), 0, sites="1", pool="none")


def test_what_cannot_be_is_told():
    net = flat(2)
    bank = ConceptBank.of({"c": noise(6)}, random=noise(60, 1))
    scans = noise(5, 2)
    for error, said, change in (
        (BadImage, "images of the class", {"scans": []}),
        (BadImage, r"images in \[2\] dimensions", {"scans": noise(3, 2, dims=3)}),
        (BadModel, "takes another input", {"scans": noise(3, 2, size=8), "pool": "none"}),
        (BadParameter, "direction is", {"direction": "svm"}),
        (BadParameter, "pool is", {"pool": "median"}),
        (BadParameter, "randoms of tcav", {"randoms": 0}),
        (BadParameter, "alpha of tcav", {"alpha": 2.0}),
        (BadParameter, "a patient for each of 5 images", {"patients": [1]}),
        (BadParameter, "at least one site", {"sites": []}),
        (BadParameter, "at least one target", {"target": []}),
        (BadSite, "does not exist", {"sites": "nowhere"}),
        (BadTarget, "disease", {"target": "disease"}),
    ):
        change = {"scans": scans, "target": 1, "sites": "1", **change}
        with pytest.raises(error, match=said):
            tcav(net, bank, change.pop("scans"), change.pop("target"), **change)
    found = tcav(net, bank, scans, [0, 1], sites="1")
    with pytest.raises(BadParameter, match="one row of 'c'; got 2"):
        found.row("c")
    assert found.row("c", target="class 1").target == "class 1"


def row_of(**more):
    known = {
        "concept": "spots", "site": "3", "target": "DME", "against": "random", "score": 0.92, "low": 0.85, "high": 0.96, "sensitivity": 1.0,
        "effect": 1.0, "accuracy": 0.9, "accuracy_p": 0.001, "p": 0.05, "p_holm": 0.05, "t_p": 0.0, "t_holm": 0.0, "t_bonferroni": 0.0,
        "null": (0.4, 0.5, 0.6), "images": 30, "size": 12, "verdict": "raises",
    }  # fmt: skip
    return ConceptRow(**known | more)


def test_a_sentence_follows_its_verdict():
    assert row_of().sentence.startswith("Spots raised the DME score in 92 % [85, 96] of 30 images; random concepts 50 % [")
    low = row_of(verdict="lowers", score=0.1, low=0.05, high=0.2, null=(0.5, 0.6, 0.7)).sentence
    assert low.startswith("Spots lowered the DME score in 90 % [80, 95] of 30 images; random concepts 40 % [3"), "both are shares of falls"
    rare = row_of(score=0.4, low=0.3, high=0.5, null=(0.1, 0.1, 0.1)).sentence
    assert rare.startswith("Spots raised the DME score in 40 % [30, 50] of 30 images; random concepts 10 %"), "rarely, but more than random"
    alike = row_of(uniform=True, low=float("nan"), high=float("nan")).sentence
    assert alike.startswith("Spots raised the DME score for 92 % of the directions, in all 30 images alike; random concepts 50 % [")


@pytest.mark.parametrize("verdict", ["raises", "lowers", "no more than random", "not told apart", "too few random sets"])
@pytest.mark.parametrize("value", [-2.0, -0.5, 0.5, 2.0])
def test_one_image_never_says_more_than_all(verdict, value):
    """Its sentence claims an effect of the concept only where the set has one, and names what differs from it."""
    said = Sensitivity("spots", "3", "DME", value, value, -1.0, 1.0, verdict).sentence
    beyond, agrees = abs(value) > 1, verdict == ("raises" if value > 0 else "lowers")
    assert ("In this image too" in said) == (beyond and agrees)
    assert ("exception" in said) == (beyond and not agrees and verdict in ("raises", "lowers"))
    assert ("one over many images" in said) == (not beyond and agrees)
    assert ("it is not seen" in said) == (not beyond and not agrees and verdict in ("raises", "lowers"))
    assert said.startswith("No finding") == (verdict == "no more than random")
    assert ("by chance" in said) == (beyond and verdict == "no more than random")
    assert ("nothing is said" in said) == (verdict in ("not told apart", "too few random sets"))
    assert said.endswith("(at 3).")


def test_a_gradient_that_no_image_changes_is_said_to_be_one():
    """Pooling and one linear layer: each direction scores 0 or 1 in all images; a ReLU between them changes that."""
    torch.manual_seed(0)
    body = [nn.Conv2d(1, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    line, bent = (nn.Sequential(*body, *head).eval() for head in ([nn.Linear(6, 2)], [nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2)]))
    bank = ConceptBank.of({"bright": noise(6, 0, bright=0.5)}, random=noise(120, 1))
    for net, pool, same in ((line, "mean", True), (line, "none", True), (bent, "mean", False)):
        found = tcav(net, bank, noise(7, 2), 1, sites="1", pool=pool)
        row = found.rows[0]
        assert row.uniform == same == any("the same in every image" in n for n in found.notes)
        assert np.isnan(row.low) == np.isnan(row.high) == same, "no interval over images that say the same"
        assert ("in all 7 images alike" in row.sentence) == (same and row.verdict != "not told apart")
        if same:
            each = [s * len(row.null) for s in (row.score, *row.null)]
            assert each == pytest.approx([round(e) for e in each]), "every direction scores 0 or 1"
            assert "share of directions" in " ".join(found.provenance.caveats)
