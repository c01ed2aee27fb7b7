"""The first lines of a report: where a map points, what its values are, and that every verdict has its own words."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.report.cases import CLASSES, FOR_AT, SHAPE, explained, flat, head

import pellucid as pl
from pellucid.explanation import Evidence
from pellucid.grid import Grid, as_affine
from pellucid.image import Image
from pellucid.method import REGISTRY, Values, methods
from pellucid.report import cohort_page, pictures, summary, words
from pellucid.report.html import render
from pellucid.report.meaning import meaning

SIDES = ("R", "L", "A", "P", "I", "S")


def rows(maps, n=0):
    """The four answers of a map: (strong, more) each."""
    return [(r["strong"], r["more"]) for r in summary.summary(maps, None, None)[n]["rows"]]


def checked(verdict):
    return Evidence("quick", (), verdict, ("Because.",))


# ---------------------------------------------------------------------------------------------------- where
@pytest.mark.parametrize("shift", [0.0, 100.0, -100.0])  # a knee lies wholly on one side of where the millimeters count from
@pytest.mark.parametrize("tilt", [0.0, 40.0])
def test_a_place_is_told_by_the_edges_of_the_picture_and_never_as_a_side_of_the_patient(shift, tilt):
    scan, _ = head(tilt)
    moved = np.array(scan.grid.affine)
    moved[0, 3] += shift
    scan = replace(scan, grid=Grid(SHAPE, as_affine(moved), "mm"))
    for at in (FOR_AT, (1, 1, 1), (10, 2, 8), (5, 6, 4)):
        values = torch.zeros(1, *SHAPE)
        values[(0, *at)] = 1.0
        m = explained(scan, values)
        where = summary.where(m)
        said = " ".join(rows([m])[2])
        assert "patient" not in said
        shown = pictures.pictures(scan, [m])
        seen = set()
        for plane in shown.layout.planes:
            peak = [(shown.layers[0].peak[a] + 0.5) / shown.grid.shape[a] for a in range(3)]
            across, down = peak[plane.x], 1 - peak[plane.y] if plane.flip_y else peak[plane.y]
            left, right, top, bottom = plane.edges
            seen |= {left} if across < 0.4 else {right} if across > 0.6 else set()
            seen |= {top} if down < 0.4 else {bottom} if down > 0.6 else set()
        assert {s for s in SIDES if s in where.words.partition("marked")[2].replace("and", "")} == seen
        assert bool(seen) == where.words.startswith("toward the edge")
    assert where.words == "near its middle"


def blobs(shape, places, noise=0.0, size=2.0):
    """A map of bright spots: (where along each axis from 0 to 1, how bright)."""
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).astype(float)
    values = np.random.default_rng(0).normal(0, noise, shape).clip(0) if noise else np.zeros(shape)
    for place, bright in places:
        far = sum((row - p * n) ** 2 for row, p, n in zip(at, place, shape, strict=True))
        values = values + bright * np.exp(-far / size**2)
    return torch.from_numpy(values)[None]


@pytest.mark.parametrize("noise", [0.0, 0.002])
@pytest.mark.parametrize(
    ("places", "said"),
    [
        ([((0.5, 0.15), 1.0), ((0.5, 0.85), 0.9)], "in 2 separate places: left; right"),
        ([((0.15, 0.15), 1.0), ((0.85, 0.85), 1.0)], "in 2 separate places: lower right; upper left"),
        ([((0.5, 0.15), 1.0), ((0.5, 0.5), 1.0), ((0.5, 0.85), 0.9)], "in 3 separate places"),
        ([((0.3, 0.1), 1.0), ((0.7, 0.1), 0.9)], "in 2 separate places: upper left; lower left"),
        ([((0.5, 0.5), 1.0)], "near the middle of the picture"),
        ([((0.2, 0.5), 1.0)], "in the upper part of the picture"),
    ],
)
def test_a_place_is_told_only_where_something_is_marked(places, said, noise):
    m = explained(Image(torch.rand(1, 64, 64)), blobs((64, 64), places, noise))
    found = summary.where(m).words
    assert (
        sorted(found.replace("mostly ", "").partition(": ")[2].split("; ")) == sorted(said.partition(": ")[2].split("; ")) or said in found
    )
    assert said.partition(":")[0] in found
    assert len(places) == 1 or "middle" not in found or any(p == (0.5, 0.5) for p, _ in places)


def test_two_sides_of_a_volume_are_both_named_and_a_ring_has_no_middle():
    scan, _ = head()
    scan = replace(scan, values=torch.full((1, 40, 36, 20), 0.3), grid=replace(scan.grid, shape=(40, 36, 20)))
    both = summary.where(explained(scan, blobs((40, 36, 20), [((0.15, 0.5, 0.5), 1.0), ((0.85, 0.5, 0.5), 0.9)])))
    assert sorted(both.words.partition(": ")[2].split("; ")) == ["toward the edge marked L", "toward the edge marked R"]
    unsided = replace(scan, facts={"sided": False})
    assert (
        summary.where(explained(unsided, blobs((40, 36, 20), [((0.15, 0.5, 0.5), 1.0), ((0.85, 0.5, 0.5), 0.9)]))).words
        == "in 2 separate places"
    )
    y, x = np.mgrid[:64, :64] - 31.5
    ring = torch.from_numpy((np.abs(np.hypot(y, x) - 20) < 1).astype(float))[None]
    assert summary.where(explained(Image(torch.rand(1, 64, 64)), ring)).words == ""


def test_what_lies_elsewhere_is_told_beside_most_of_it():
    m = explained(Image(torch.rand(1, 96, 96)), blobs((96, 96), [((0.5, 0.2), 1.0)], size=5.5))
    assert summary.where(m).words == "in the left part of the picture"
    many = [((0.1 + 0.2 * (k // 4), 0.63 + 0.085 * (k % 4)), 1.0) for k in range(12)]
    small = blobs((96, 96), many, size=1.2) + m.values
    said = summary.where(explained(Image(torch.rand(1, 96, 96)), small)).words
    assert said == "mostly in the left part of the picture, less of it in 12 more places"
    assert (
        "Half of what speaks for late lies in " in rows([explained(Image(torch.rand(1, 96, 96)), small)])[2][0]
    )  # no share of another whole


def test_equal_places_are_both_told_with_all_that_they_hold():
    values = torch.zeros(1, 64, 64)
    values[0, 5:8, 5:8] = values[0, 56:59, 56:59] = 1.0
    m = explained(Image(torch.rand(1, 64, 64)), values)
    said = rows([m])[2][0] + rows([replace(m, evidence=checked("supported"))])[2][0]
    assert "upper left" in said and "lower right" in said and said.startswith("All of what speaks for late lies in 0.4")


def test_without_letters_no_edge_is_named():
    assert summary.where(explained(*head(sided=False))).words == ""
    assert summary.where(explained(*flat())).words == "in the upper right part of the picture"


@pytest.mark.parametrize(("value", "said"), [(0.0, "zero everywhere"), (1.0, "the same everywhere"), (-0.5, "the same everywhere")])
def test_an_empty_map_points_nowhere(value, said):
    scan, _ = flat()
    maps = [explained(scan, torch.full((1, 8, 12), value), evidence=checked("supported")) for _ in range(3)]
    strong, more = rows(maps)[2]
    assert strong.startswith("Nowhere") and said in strong
    assert "same place" not in more and "spread" not in strong + more
    assert words.about(maps[0], *_shown(maps), 0)["peak"].startswith("none") == (value == 0)


def _shown(maps):
    shown = pictures.pictures(maps[0].scan, maps)
    return shown.layers[0], shown


# ---------------------------------------------------------------------------------------------------- verdicts
@pytest.mark.parametrize("verdict", ["supported", "questionable", "not supported", "void", None])
def test_every_verdict_has_its_own_sentences(verdict):
    m = explained(*flat(), evidence=checked(verdict))
    looked, trusted = rows([m])[2:]
    assert trusted[0].startswith(summary.TRUST[verdict or "not examined"])
    assert ("It shows what the network used" in trusted[1]) == (verdict == "supported")
    assert (looked[0] == "This map cannot tell.") == (verdict in ("not supported", "void"))


def test_only_supported_maps_confirm_and_are_confirmed():
    scan, values = flat()
    elsewhere = values.flip(1, 2)
    spread = torch.rand(3, 8, 12, generator=torch.Generator().manual_seed(1))
    of = lambda v, word: explained(scan, v, evidence=checked(word))  # noqa: E731
    assert rows([of(values, "supported"), of(values, "not supported"), of(values, None)])[2][1] == ""
    assert rows([of(values, "not supported"), of(values, "supported")])[2][0] == "This map cannot tell."
    assert "same place" not in str(summary.summary([of(spread, "not supported"), of(spread, "not supported")], None, None))
    assert "same place" in rows([of(values, "supported"), of(2 * values, "supported")])[2][1]
    assert "elsewhere" in rows([of(values, "supported"), of(elsewhere, "supported")])[2][1]
    assert "elsewhere" in rows([of(spread, "supported"), of(spread, "supported")])[2][1]  # in the middle of everything is nowhere


def test_side_by_side_the_worst_verdict_comes_first():
    scan, values = flat()
    maps = [
        explained(scan, values, evidence=checked(w), method=f"{n}()")
        for n, w in (("occlusion", "supported"), ("grad_cam", "not supported"))
    ]
    blocks = summary.summary(maps, None, None)
    assert [b["show"] for b in blocks] == ["0", "1", "all"]
    assert [[b["word"] for b in block["badges"]] for block in blocks] == [["supported"], ["not supported"], ["not supported", "supported"]]
    assert blocks[2]["rows"][3]["strong"] == "Do not rely on: Grad-CAM."


# ---------------------------------------------------------------------------------------------------- what the values are
def test_every_method_declares_what_its_values_are():
    assert [m.name for m in methods() if m.fn.__module__.startswith("pellucid.") and m.facts.values is Values.UNDECLARED] == []
    assert REGISTRY["saliency"](absolute=True).facts.values is pl.vargrad.facts.values is Values.SIZES
    assert pl.smoothgrad.facts.values is REGISTRY["saliency"].facts.values is Values.SLOPES
    assert REGISTRY["integrated_gradients"](times_input=False).facts.values is Values.SLOPES


def test_only_contributions_raise_the_score_and_speak_for_it():
    scan, values = flat()
    for m in [*methods(), REGISTRY["saliency"](absolute=True), pl.vargrad]:
        said = meaning(repr(m), "late", "logit")
        page = f"{said} {rows([explained(scan, values, method=repr(m))])[2]}"
        speaks = "raises the score" in page or "speaks for" in page or "contribution" in page
        assert speaks == (m.facts.values is Values.CONTRIBUTIONS), m.name
        assert ("same for every answer" in page) == (not m.facts.hears_target), m.name
    unknown = meaning("somebodys(thing=<object>)", "late", "logit")
    assert "not declared" in unknown.what and "logit" not in unknown.what


# ---------------------------------------------------------------------------------------------------- scores
def test_a_logit_is_told_beside_its_rival():
    scan, values = flat()
    odds = torch.tensor([0.5, -1.0, -0.3]).softmax(0).tolist()
    m = replace(explained(scan, values), probabilities=tuple(odds), score=-0.3)
    said = words.told(m)
    assert said["score"] == "−0.3 logit" and said["beside"] == "0.8 below healthy; logits count only against each other."


def test_findings_exclude_each_other_as_the_output_is_read_and_never_as_they_sum():
    scan, values = flat()
    chance = replace(explained(scan, values, output="multi-label"), probabilities=(0.6, 0.3, 0.1))  # by chance the sum is 1
    assert words.told(chance)["beside"] == "" and not words.predictions([chance])[0]["exclusive"]
    assert rows([chance])[0] == (
        "healthy 60.0\u00a0%",
        "Each answer is judged by itself; several can hold at once.",
    )
    assert rows([chance])[1][0] == "It is least sure of healthy: it leans toward healthy, not more."
    one_of = replace(explained(scan, values), probabilities=(0.6, 0.3, 0.1))
    assert "beside" in words.told(one_of) and "Of the 3 answers" in rows([one_of])[0][1]
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(96, 2), torch.nn.Sigmoid())
    ends = pl.explain(pl.Model(net, ends_in="sigmoid"), scan.values[:1], 0, method="saliency")
    assert ends.provenance.output == "multi-label" and "Each answer" in rows([ends])[0][1]


@pytest.mark.parametrize(
    ("p", "truth", "said"),
    [
        ((0.289, 0.182, 0.1), "healthy", ("none of its 3 answers reaches 50 %; the highest: healthy", "28.9 %", False)),
        ((0.289, 0.182, 0.1), "no finding", ("none of its 3 answers reaches 50 %; the highest: healthy", "28.9 %", None)),
        ((0.6, 0.9, 0.1), "healthy", ("early, healthy", "90.0 %, 60.0 %", True)),
        ((0.6, 0.9, 0.1), "late", ("early, healthy", "90.0 %, 60.0 %", False)),
    ],
)
def test_a_cohort_says_of_many_labels_what_the_report_says(p, truth, said):
    m = replace(explained(*flat(), output="multi-label"), probabilities=p)
    row = cohort_page._row(cohort_page.Patient([m], truth=truth), 1)
    assert (row["predicted"], row["percent"], row["right"]) == said
    assert row["predicted"].split(",")[0].split(";")[0].lower() in rows([m])[0][0].lower().replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("output", "classes", "p", "says", "sure"),
    [
        ("single logit", ("effusion",), (0.01,), "Not effusion: the probability of effusion is 1.0 %", "It is very sure that it is not effusion."),
        ("single logit", ("effusion",), (0.231,), "Not effusion: the probability of effusion is 23.1 %", "It leans toward not effusion, not more."),
        ("single logit", ("effusion",), (0.45,), "Not effusion: the probability of effusion is 45.0 %", "It is undecided about effusion."),
        ("single logit", ("effusion",), (0.7,), "effusion 70.0 %", "It leans toward effusion, not more."),
        ("single logit", ("effusion",), (0.99,), "effusion 99.0 %", "It is very sure of effusion."),
        ("single logit", ("benign",), (0.01,), "Not benign: the probability of benign is 1.0 %", "It is very sure that it is not benign."),
        ("single logit", ("normal",), (0.3,), "Not normal: the probability of normal is 30.0 %", "It leans toward not normal, not more."),
        ("multi-label", ("No Finding", "effusion"), (0.02, 0.02), "None of its 2 answers reaches 50 %; the highest: No Finding, 2.0 %", "It is very sure that none of them holds."),
        ("single logit", ("no", "effusion"), (0.99, 0.01), "no: 99.0 %", "It is very sure."),
        ("multi-label", ("effusion", "mass"), (0.018, 0.007), "None of its 2 answers reaches 50 %; the highest: effusion, 1.8 %", "It is very sure that none of them holds."),
        ("multi-label", ("effusion", "mass"), (0.01, 0.1), "None of its 2 answers reaches 50 %; the highest: mass, 10.0 %", "It is fairly sure that none of them holds."),
        ("multi-label", ("effusion", "mass"), (0.3, 0.02), "None of its 2 answers reaches 50 %; the highest: effusion, 30.0 %", "It leans toward none of them, not more."),
        ("multi-label", ("effusion", "mass"), (0.98, 0.03), "effusion 98.0 %", "It is very sure of each of the 2 answers, whether it holds or not."),
        ("multi-label", ("effusion", "mass"), (0.98, 0.3), "effusion 98.0 %", "It is least sure of mass: it leans toward not mass, not more."),
        ("multi-label", ("effusion", "mass"), (0.98, 0.52), "effusion 98.0 %, mass 52.0 %", "It is undecided about mass."),
    ],
)  # fmt: skip
def test_where_nothing_is_found_that_is_the_answer_and_certainty_names_its_object(output, classes, p, says, sure):
    m = replace(explained(*flat(), output=output, classes=classes, target=f"logit({classes[0]!r})"), probabilities=p)
    (strong, _), (certain, _) = rows([m])[:2]
    assert (strong.replace("\u00a0", " "), certain) == (says, sure)
    row = cohort_page._row(cohort_page.Patient([m]), 1)
    assert not re.search("none found|there is none", f"{strong} {certain} {row['predicted']}".lower())  # a class may be a good one
    assert len(p) > 1 or p[0] >= 0.5 or row["percent"] == f"{classes[0]} {words.percent(p[0])}"
    assert row["predicted"].split(";")[0].split(" (")[0].split(",")[0].lower() in strong.replace("\u00a0", " ").lower()


@pytest.mark.parametrize("shape", [(8, 12), (6, 8, 7)])
def test_of_a_segmentation_no_code_is_printed_and_nothing_false_is_said(shape):
    layer = (torch.nn.Conv2d if len(shape) == 2 else torch.nn.Conv3d)(1, 3, 3, padding=1)
    net = pl.Model(layer, classes=("none", "organ", "lesion"))
    mask = torch.zeros(shape)
    mask[2:5, 2:5] = 1
    m = pl.explain(net, Image(torch.rand(1, *shape)), pl.region("lesion", mask), method="saliency")
    said = rows([m])
    page = render([m], "", None)
    assert "no class probabilities" not in page and page.count("labels every sample") >= 2
    size = f"({int(mask.sum())} samples)"
    assert (
        re.match(rf"Its score for lesion over the given region \w{{4}} {re.escape(size)} is ", said[0][0])
        and "labels every sample" in said[0][1]
    )
    assert f"no one answer for the whole {'volume' if len(shape) == 3 else 'picture'}" in said[0][1]
    assert "region(" not in str(said) + str(words.told(m)["bar"]) and words.told(m)["raw_target"].startswith("region(")


def test_a_measurement_is_no_logit_and_an_undeclared_number_no_probability():
    scan = Image(torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1))
    why = pl.explain(net, scan, method="saliency")
    assert why.probabilities == () and why.provenance.output == "undeclared" and any("one number" in c for c in why.provenance.caveats)
    assert rows([why])[0][0].startswith("One number") and "sure" not in " ".join(rows([why])[1])
    age = pl.explain(pl.Model(net, output="regression", classes=("age",)), scan, method="integrated_gradients", steps=4)
    said = words.told(age)
    assert "logit" not in str([rows([age]), said["unit"], said["score"], said["bar"], said["target"]])
    assert said["bar"]["high"] == "raises the value" and rows([age])[0][0].startswith("age: ")
    yes = pl.explain(pl.Model(net, classes=("no", "yes")), scan, method="saliency")
    assert len(yes.probabilities) == 2 and yes.provenance.output == "single logit" and words.told(yes)["beside"] == ""


# ---------------------------------------------------------------------------------------------------- places
def placed(order, flip, origin, tilt=0.0):
    """An empty volume whose file lies along the patient's axes in ``order``, some reversed, its origin anywhere."""
    shape = tuple((12, 15, 9)[a] for a in order)
    size = np.diag([2.0, 1.5, 0.5])[:, list(order)] * np.where(flip, -1.0, 1.0)
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ size
    middle = affine[:3, :3] @ (np.array(shape) - 1) / 2
    affine[:3, 3] = {"corner": 0 * middle, "center": -middle, "outside": -7 * middle}[origin]
    return Image(torch.zeros(1, *shape), Grid(shape, as_affine(affine), "mm"), facts={"sided": True}), middle + affine[:3, 3]


PLACED = [
    (order, flip, origin, tilt)
    for order, flip in (((0, 1, 2), (0, 0, 0)), ((0, 1, 2), (1, 1, 0)), ((2, 0, 1), (1, 0, 1)), ((1, 2, 0), (0, 1, 0)))
    for origin in ("corner", "center", "outside")
    for tilt in (0.0, 20.0)
]


@pytest.mark.parametrize(("order", "flip", "origin", "tilt"), PLACED)
def test_a_side_is_the_nearer_edge_wherever_the_origin_lies(order, flip, origin, tilt):
    scan, middle = placed(order, flip, origin, tilt)
    for at in ((1, 1, 1), (0, 5, 7), (7, 7, 7)):
        values = torch.zeros_like(scan.values)
        index = tuple(min(i, n - 1) for i, n in zip(at, scan.grid.shape, strict=True))
        values[(0, *index)] = 1.0
        m = explained(scan, values)
        said = words.about(m, *_shown([m]), 0)["peak"]
        edges, coordinates = said.removeprefix("+1 at ").split("; ")
        assert (
            coordinates
            == "RAS coordinates "
            + ", ".join(f"{n} {w + 1e-9:.1f}" for n, w in zip("xyz", scan.grid.world(index), strict=True))
            .replace("-0.0", "0.0")
            .replace("-", "−")
            + " mm"
        )
        told = re.findall(r"(\d+\.\d) mm from (?:the scan’s edge )?([RLAPIS])", edges)
        off = np.linalg.inv(scan.grid.matrix[:3, :3] / np.array(scan.grid.spacing)) @ (
            np.array(scan.grid.world(index)) - middle
        )  # along the file's axes
        for mm, letter in told:
            world = next(w for w, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
            a = order.index(world)
            toward = off[a] * (1 if scan.grid.matrix[world, a] > 0 else -1)
            assert letter == ("LR", "PA", "IS")[world][int(toward > 0)] or abs(toward) < 1e-6, said
            n, size = scan.grid.shape[a], scan.grid.spacing[a]
            assert float(mm) == pytest.approx((min(index[a], n - 1 - index[a]) + 0.5) * size, abs=0.051)
        assert [one[1] in pair for one, pair in zip(told, ("RL", "AP", "IS"), strict=True)] == [True] * 3
        for letter in re.findall(r"[RLAPIS]", summary.where(m).words.partition("marked")[2]):
            assert letter in [one[1] for one in told]  # the first lines and the readout name the same edges


def test_without_letters_a_place_is_its_coordinates():
    m = explained(*head(sided=False))
    assert words.about(m, *_shown([m]), 0)["peak"] == "+2 at coordinates x 3.0, y 6.5, z 5.5 mm, sides unknown"


@pytest.mark.parametrize("turned", [1.0, -1.0])
def test_a_flat_picture_has_no_coordinates_in_the_patient(turned):
    affine = ((0.0, turned, 0, 0), (1.0, 0, 0, 0), (0, 0, 1.0, 0), (0, 0, 0, 1.0))
    scan = Image(torch.rand(1, 6, 9), Grid((6, 9), affine, "mm"), facts={"sided": True})
    values = torch.zeros(1, 6, 9)
    values[0, 1, 2] = 1.0
    peak = words.about(explained(scan, values), *_shown([explained(scan, values)]), 0)["peak"]
    assert peak == "+1 at 2.5 mm from the left edge, 1.5 mm from the top" and CLASSES


def test_the_color_bar_says_how_much_lies_beyond_it():
    scan, _ = flat()
    values = torch.zeros(1, 8, 12)
    values[0, :, :6], values[0, 0, 0] = 0.01, 1.0
    m = explained(scan, values)
    layer, shown = _shown([m])
    assert layer.beyond == pytest.approx(1 / 96)
    assert "1.0 % of the samples lie beyond, up to 1." in words.about(m, layer, shown, 0)["signs"]


def test_one_function_writes_shares_as_percent_in_every_script():
    home = Path(pl.__file__).parent
    scripts = [f for part in ("viewer/static", "report/scene", "report/page") for f in (home / part).rglob("*.js")]
    own = [f.name for f in scripts if re.search(r"toFixed\(\d\)\}\s?%", f.read_text("utf-8"))]
    assert len(scripts) > 10 and own == ["numbers.js"]
