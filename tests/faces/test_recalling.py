"""``pellucid similar``, ``influence`` and ``concepts`` as a new user gives them; what they find in a report; what is never told."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.pages import followed, told

import pellucid as pl
from pellucid.concepts import Concepts
from pellucid.errors import BadImage, BadParameter
from pellucid.exemplars import Exemplars, Influence
from pellucid.loading import load_model
from pellucid.report import Influential, concepts_of, influence_of, similar_of, write_report
from pellucid.report.related import similar_cards
from pellucid.report.words import alike, number
from pellucid.table import percent

ROOT = Path(__file__).parents[2]

NET = """
import torch
from torch import nn

def made(scale=1.0):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2))
    net[0].weight.data *= scale
    return net
"""


def on_examples(args):
    """The checks of the maps are tested elsewhere."""
    return ("--evidence", "none") if args[0] in ("similar", "influence") else ()


def test_the_page_on_examples_runs_as_written(tmp_path, monkeypatch):
    first, second, why = followed("examples.md", tmp_path, monkeypatch, part="From the command line", added=on_examples).values()
    assert re.search(r"5 most similar of 24 other cases: [3-5] x DME", first)
    assert "most similar of 23 other cases" in second, "a patient is left out"
    places = [int(p) for p in re.findall(r"(?m)^[1-5] .*?(?:%|identical) +\S+ +(\d+)\b", second)]
    assert len(places) == 5 and 5 not in places
    assert all(f"/{p}.png" in second for p in places)
    assert not re.search(r"\d+\.png|patient", first + why), "names are told on request alone"
    page = (tmp_path / "similar.html").read_text()
    assert page.count('alt="A similar case: ') == page.count('alt="Its map"') == 5
    assert "patient 5" not in page and ".png" not in page and str(tmp_path) not in page
    assert "rank correlation" in why and (tmp_path / "influence" / "influence.csv").exists()
    known = json.loads((tmp_path / "influence" / "influence.json").read_text())
    assert len(known["values"]) == 24 and known["target"] == "DME"
    shown = (tmp_path / "influence" / "report.html").read_text()
    assert shown.count('alt="Training image: ') == len(lines(tmp_path / "influence" / "influence.csv")) - 1 > 5
    assert "Training images that decided" in shown and "rank correlation" in shown and not re.search(r"\d\.png|patient \d", shown)
    again = Influence.load(tmp_path / "influence" / "influence.json", load_model("phantom:fundus_dme"))
    assert again.values.tolist() == known["values"]


def test_the_page_on_concepts_runs_as_written(tmp_path, monkeypatch):
    (printed,) = followed("concepts.md", tmp_path, monkeypatch, part="From the command line").values()
    assert re.search(
        r"Edema raised the .* for \d+ % of the directions, in all 12 images alike; random concepts \d+ % \[\d+, \d+\], p = 0.05", printed
    )
    assert "note: at 'features.2' the gradient of DME over no DME is the same in every image" in printed
    row = dict(zip(*lines(tmp_path / "found" / "table.csv"), strict=True))
    assert row["concept"] == "edema" and row["verdict"] == "raises" and int(row["random sets"]) == 19
    assert (tmp_path / "found" / "figure.png").stat().st_size > 5000
    facts = json.loads((tmp_path / "found" / "concepts.json").read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert facts["provenance"]["model"] and facts["rows"][0]["p"] == pytest.approx(0.05)
    assert not re.search(r"[ca]\d+\.png", printed + json.dumps(facts["rows"]))
    assert "Of 1 expectations: 1 found as expected." in printed and "belongs" in printed
    agreed = dict(zip(*lines(tmp_path / "found" / "agreement.csv"), strict=True))
    assert (agreed["concept"], agreed["expected"], agreed["agreement"]) == ("edema", "belongs", "agrees")
    again = Concepts.load(tmp_path / "found" / "concepts.json", load_model("phantom:fundus_dme"))
    assert (
        again.rows[0].sentence in printed
        and again.sensitivities(load_model("phantom:fundus_dme"), tmp_path / "a0.png")[0].concept == "edema"
    )


def test_expectations_against_the_network_are_named(small):
    rng = np.random.default_rng(1)
    (small / "b").mkdir()
    for i in range(140):
        dark = rng.integers(0, 120, (10, 10)) + (130 if i < 6 else 0)
        Image.fromarray(dark.astype(np.uint8)).save(small / "b" / f"{i}.png")
    rows = [(f"b/{i}.png", "bright" if i < 6 else "random") for i in range(140)]
    table(small / "bank.csv", *rows, columns=("image", "concept"))
    args = ("concepts", "--bank", small / "bank.csv", "--images", small / "t.csv", *network(small), "--site", "1", "--pool", "mean")
    targets = ("--target", "logit(1) - logit(0)", "--target", "logit(0) - logit(1)", "--expected", small / "e.csv")
    way = json.loads(told(*args, *targets[:2], "--json").stdout)["rows"][0]["verdict"]
    assert way in ("raises", "lowers")
    table(small / "e.csv", ("bright", "yes", targets[1]), ("bright", "yes", targets[3]), columns=("concept", "expected", "target"))
    found = json.loads(told(*args, *targets, "--json", "--out", small / "out").stdout)
    assert sorted(r["agreement"] for r in found["agreement"]) == ["agrees", "contradicts"], "one of two opposite targets"
    (line,) = (n for n in (small / "out" / "sentences.txt").read_text().splitlines() if n.startswith("Against"))
    assert "bright lowers the" in line and "which belongs to it" in line
    table(small / "e.csv", ("bright", "yes"), columns=("concept", "expected"))
    assert "expectations of a --target; got none" in told(*args, *targets, code=1).stderr
    assert told(*args, *targets[:2], "--expected", small / "e.csv").stdout.count("belongs")
    table(small / "e.csv", ("spots", "yes"), columns=("concept", "expected"))
    assert "a concept of the bank; got 'spots'" in told(*args, *targets[:2], "--expected", small / "e.csv", code=1).stderr


# ---------------------------------------------------------------------------------------------------- small networks
@pytest.fixture
def small(tmp_path):
    """A network that nobody knows, 12 images (the last one is the first again), a table, and the scan that is asked about."""
    (tmp_path / "nets.py").write_text(NET)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(11):
        dark = rng.integers(0, 120, (10, 10)) + 120 * (i % 2)
        Image.fromarray(dark.astype(np.uint8)).save(tmp_path / f"MILLER{i}.png")
        rows.append((f"MILLER{i}.png", ("dim", "bright")[i % 2], f"PAT-{i // 2}"))
    table(tmp_path / "t.csv", *rows)
    return tmp_path


def table(path, *rows, columns=("image", "label", "patient")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])
    return rows


def lines(path):
    return list(csv.reader(path.read_text().splitlines()))


def network(home, options="scale=1.0"):
    return "--model", f"{home / 'nets.py'}:made", "--trust", "--prepare", "range=(0, 1)", "--options", options


def asked(home, *more, code=0, model=None):
    return told("similar", home / "MILLER4.png", "--among", home / "t.csv", *(model or network(home)), *more, code=code)


def test_names_and_patients_are_not_told(small):
    got = asked(small, "--k", 3, "--json")
    found = json.loads(got.stdout)
    assert found["matches"][0]["place"] == 4 and found["matches"][0]["same_image"]
    assert not re.search("MILLER|PAT-[0-9]", got.output)
    assert "note: place 4 is the scan itself; --patient leaves out" in asked(small).stdout
    without = json.loads(asked(small, "--patient", "PAT-2", "--names", "--json").stdout)
    assert without["left_out"] == 2 and not {4, 5} & {m["place"] for m in without["matches"]}
    assert [Path(n).name for n in without["names"]] == [f"MILLER{m['place']}.png" for m in without["matches"]]


def test_an_error_about_a_case_names_its_line(small):
    (small / "MILLER7.png").write_bytes(b"no picture")
    got = asked(small, code=1)
    assert len(got.stderr.splitlines()) == 1 and "line 9 of t.csv" in got.stderr and "MILLER" not in got.stderr
    table(small / "p.csv", ("MILLER1.png", "", "PAT-1"), ("MILLER2.png", "", ""))
    got = told("similar", small / "MILLER4.png", "--among", small / "p.csv", *network(small), code=1)
    assert "a patient in line 3 of p.csv" in got.stderr


def test_an_index_is_kept_grows_and_is_refused_for_others(small):
    rows = lines(small / "t.csv")
    table(small / "t.csv", *rows[1:9])
    asked(small, "--index", small / "kept")
    before = {p.name for p in (small / "kept").iterdir()}
    asked(small, "--index", small / "kept")
    assert {p.name for p in (small / "kept").iterdir()} == before, "nothing new, nothing written"
    table(small / "t.csv", *rows[1:])
    grown = json.loads(asked(small, "--index", small / "kept", "--json").stdout)
    assert grown["searched"] == 11
    assert grown["matches"] == json.loads(asked(small, "--json").stdout)["matches"], "as if made at once"
    alone = told("similar", small / "MILLER4.png", "--among", small / "kept", *network(small), "--json").stdout
    assert json.loads(alone)["matches"] == grown["matches"]
    other = network(small, "scale=2.0")
    assert "another network" in asked(small, "--index", small / "kept", code=1, model=other).stderr
    assert "another measure or site" in asked(small, "--index", small / "kept", "--by", "ssim", code=1).stderr
    assert "another measure or site" in asked(small, "--index", small / "kept", "--site", "0", code=1).stderr
    table(small / "t.csv", (rows[1][0], "bright", rows[1][2]), *rows[2:])
    got = asked(small, "--index", small / "kept", code=1).stderr
    assert "1 of 11 that it does not, or whose label or patient it changes" in got
    assert "Leave --index out" in told(
        "similar", small / "MILLER4.png", "--among", small / "kept", "--index", small / "more", *network(small), code=1
    ).stderr  # fmt: skip


def test_a_changed_case_is_not_shown_in_the_report(small):
    asked(small, "--index", small / "kept")
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(small / "MILLER4.png")
    (small / "MILLER5.png").write_bytes(b"no picture")
    page = small / "page.html"
    got = told(
        "similar", small / "MILLER6.png", "--among", small / "kept", "--k", 11, *network(small), "--out", page, "--evidence", "none"
    )  # fmt: skip
    assert "2 of 11 cases are not in the report" in got.stdout
    assert page.read_text().count("A similar case: ") == 9
    assert not re.search("MILLER|PAT-[0-9]", page.read_text())


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--by", "colour"), "a measure is one of features, weighted"),
        (("--by", "ssim", "--site", "0"), "--site with a measure that looks at one"),
        (("--out", "similar.pdf"), "End it in .html or .json"),
        (("--evidence", "much"), "--evidence is one of"),
        (("--site", "nowhere"), "nowhere"),
        (("--among", "nothing.csv"), "no such file or folder"),
    ],
)
def test_bad_input_is_one_line(small, args, words):
    got = asked(small, *args, code=1)
    assert words in got.stderr and len(got.stderr.splitlines()) == 1


def test_a_folder_is_a_set_too(small):
    (small / "set").mkdir()
    for i in range(6):
        (small / f"MILLER{i}.png").rename(small / "set" / f"{i}.png")
    got = json.loads(told("similar", small / "MILLER6.png", "--among", small / "set", *network(small), "--k", 2, "--json").stdout)
    assert got["searched"] == 6 and all(m["place"] in (0, 2, 4) and m["label"] == "" for m in got["matches"]), "dim images"
    refused = told("influence", small / "MILLER6.png", "--training", small / "set", *network(small), code=1)
    assert "one label in image 1 of set" in refused.stderr


def test_influence_finds_who_spoke_for_the_target(small):
    args = ("influence", small / "MILLER4.png", "--training", small / "t.csv", *network(small), "--target", "dim", "--penalty", 0.1)
    found = json.loads(told(*args, "--check", 11, "--json").stdout)
    assert {r["label"] for r in found["strongest"] if r["side"] == "for"} == {"dim"}
    assert found["strongest"][0]["influence"] == max(found["values"])
    assert found["evidence"]["verdict"] == "supported"
    assert not re.search("MILLER|PAT-[0-9]", json.dumps(found))
    assert "MILLER" in told(*args, "--names").stdout
    told(*args, "--k", 20, "--out", small / "why", "--method", "saliency", "--evidence", "none")
    page = (small / "why" / "report.html").read_text()
    shown = page.count("Training image: dim") + page.count("Training image: bright")
    assert shown == len(lines(small / "why" / "influence.csv")) - 1 == 11
    assert not re.search("MILLER|PAT-[0-9]", page + (small / "why" / "influence.json").read_text())
    asked(small, "--out", small / "similar.json")
    assert [m.place for m in Exemplars.load(small / "similar.json")] == [
        m["place"] for m in json.loads(asked(small, "--json").stdout)["matches"]
    ]
    assert "identical" in asked(small).stdout
    assert "'nobody'" in told(*args, "--target", "nobody", code=1).stderr


def test_concepts_refuses_what_cannot_be_tested(small):
    images = lines(small / "t.csv")[1:]
    few = [(r[0], "spot" if i < 3 else "random") for i, r in enumerate(images)]
    table(small / "bank.csv", *few, columns=("image", "concept"))
    args = ("concepts", "--bank", small / "bank.csv", "--images", small / "t.csv", *network(small), "--target", 1)
    assert "at least 5 images of 'spot'; got 3" in told(*args, code=1).stderr
    table(small / "bank.csv", *[(r[0], "spot") for r in images[:5]], columns=("image", "concept"))
    assert "images to hold the concept against" in told(*args, code=1).stderr
    assert "a label of the table" in told(*args, "--label", "dark", code=1).stderr
    table(small / "bank.csv", ("gone/MILLER_X.png", "spot"), columns=("image", "concept"))
    got = told(*args, code=1).stderr
    assert "line 2 of bank.csv" in got and "MILLER" not in got and "gone" not in got
    for name in ("spot", "random"):
        (small / "bank" / name).mkdir(parents=True)
        for i in range(12):
            (small / "bank" / name / f"MILLER{i}.png").write_bytes(b"no picture")
    got = told(args[0], "--bank", small / "bank", *args[3:], code=1).stderr
    assert "an image of 'spot'" in got and "MILLER" not in got
    assert "--direction is one of" in told(*args, "--direction", "up", code=1).stderr


# ---------------------------------------------------------------------------------------------------- report
@pytest.mark.parametrize(("name", "level"), [("fundus", "DME"), ("chest", "cardiomegaly")])
def test_a_report_shows_all_four_levels(name, level, tmp_path):
    sys.path.insert(0, str(ROOT))
    try:
        from studies.four_levels import made
    finally:
        sys.path.pop(0)
    maps, found, tested = made(name, tmp_path / "page.html", known=12, each=5, sets=19, asked=6, steps=4, evidence="none")
    page = (tmp_path / "page.html").read_text()
    levels = [re.search(rf"<h2[^>]*>{h}</h2>", page) for h in ("Maps over the scan", "Probabilities", "Cases like this one", "In words")]
    assert all(levels) and len(maps) == 2
    assert maps[0].probabilities[maps[0].provenance.classes.index(level)] > 0.5
    assert sum(level in label.split(", ") for label in found.labels) >= 3, "of its own kind"
    for label in found.labels:
        assert f"<strong>{label}</strong>" in page
    first = tested.rows[0]
    assert first.verdict == "raises" and first.score > 0.8
    plain = page.replace("&#39;", "'").replace("&#34;", '"')
    for row in tested:
        assert row.sentence in plain, "with interval, random concepts and p, and those of which nothing is said"
    said = len(re.findall(r"In this image (too:|a step|it is not seen)|This image is an exception|No finding, for over many images", plain))
    assert said == sum(r.verdict in ("raises", "lowers", "no more than random") for r in tested)


def test_only_what_was_found_is_shown():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(108, 2)).eval()
    scans = [torch.rand(1, 8, 8) for _ in range(6)]
    found = pl.exemplars.similar(net, scans[4], scans, 3, labels=["a", "b", "", "a", "b", "a"])
    shown = similar_of(found, scans)
    assert [s.label for s in shown] == [m.label or "no label" for m in found] and shown[0].note == "the same image"
    assert all(torch.equal(s.image.values, scans[m.place]) for s, m in zip(shown, found, strict=True))
    why = pl.explain(net, scans[found.places[1]], 0, method="saliency")
    assert [s.map is None for s in similar_of(found, scans, [why])] == [True, False, True]
    with pytest.raises(BadParameter, match="a scan for each of 3 matches"):
        similar_of(found, {})
    other = next(i for i in range(6) if i not in found.places)
    with pytest.raises(BadImage, match="maps of the matches"):
        similar_of(found, scans, [pl.explain(net, scans[other], 0, method="saliency")])
    noise = torch.rand(140, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    bank = pl.concepts.ConceptBank.of({"bright": list(noise[:6] + 1), "noise": list(noise[134:])}, random=list(noise[6:120]))
    line = torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.Flatten(), torch.nn.Linear(36, 2))
    _ = [w.data.fill_(0.1) for w in line.parameters()]
    tested = pl.concepts.tcav(line, bank, list(noise[120:134]), target=1, sites="0")
    here = tested.sensitivities(line, noise[130])
    bright, nothing = concepts_of(tested, here=here)
    assert bright.effect > 0 and len(bright.examples) == 4 and "In this image too: a step toward bright raises" in bright.sentence
    assert nothing.effect is None and nothing.sentence.startswith("Nothing is said of noise") and not nothing.examples


def test_what_is_not_the_same_is_never_wholly_alike():
    """An image and its mirror image have the same mean features; only one of them is the image."""
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2)).eval()
    scan = torch.rand(1, 8, 8)
    found = pl.exemplars.similar(net, scan, [scan.flip(2), scan], 2, by="features")
    assert [round(m.likeness, 6) for m in found] == [1, 1], "the mean does not see that it was turned"
    cards = [c["likeness"] for c in similar_cards(similar_of(found, [scan.flip(2), scan]))]
    assert sorted(cards) == ["> 99.9 % alike", "identical"]
    assert [alike(v, False) for v in (0.9996, 1.0, 0.9994, 0.5, None)] == [
        "> 99.9 % alike",
        "> 99.9 % alike",
        "99.9 % alike",
        "50 % alike",
        "",
    ]


@pytest.mark.parametrize("dims", [2, 3])
def test_training_images_that_decided_are_shown_with_what_they_did(dims, tmp_path):
    torch.manual_seed(0)
    conv, pool = (torch.nn.Conv2d, torch.nn.AdaptiveAvgPool2d) if dims == 2 else (torch.nn.Conv3d, torch.nn.AdaptiveAvgPool3d)
    body = torch.nn.Sequential(conv(1, 3, 3), torch.nn.ReLU(), pool(2), torch.nn.Flatten(), torch.nn.Linear(3 * 2**dims, 2))
    net = pl.Model(body, classes=("dim", "bright"))
    scans = [torch.rand(1, *[8] * dims) + i % 2 for i in range(10)]
    labels = [net.classes[i % 2 if i != 5 else 0] for i in range(10)]  # one wrong, which speaks against
    found = pl.exemplars.influence(net, scans, labels, scans[3], "bright", penalty=0.1, check=6)
    why = pl.explain(net, scans[3], "bright", method="saliency", evidence="none")
    shown = influence_of(found, scans, 3, [why] if 3 in (*found.proponents(3), *found.opponents(3)) else [])
    places = (*found.proponents(3), *found.opponents(3))
    assert [c.value for c in shown.cases] == [float(found.values[i]) for i in places]
    assert all(torch.equal(c.image.values, scans[i]) for c, i in zip(shown.cases, places, strict=True))
    assert sum(c.note == "the image itself" for c in shown.cases) == sum(c.map is not None for c in shown.cases) == (3 in places)
    assert any("rank correlation" in s for s in shown.said) and "last layer" in shown.limits[0]
    page = write_report(tmp_path / "r.html", [why], influence=shown).read_text()
    first, last = (page.index(f'<h3 class="weighing">{side} bright</h3>') for side in ("For", "Against"))
    assert number(shown.cases[0].value, sign=True) in page[first:last] and shown.cases[-1].value < 0 < shown.cases[0].value
    assert number(shown.cases[-1].value, sign=True) in page[last:], "on its side"
    without = found.probability * np.exp(-max(found.values, key=abs))
    assert f"would have {percent(without)} instead of {percent(found.probability)}" in page
    some = influence_of(found, {places[0]: scans[places[0]]}, 3)
    assert [c.image is not None for c in some.cases] == [True] + [False] * (len(some.cases) - 1) and isinstance(some.cases[0], Influential)
    assert write_report(tmp_path / "r.html", [why], influence=some).read_text().count("no picture") == len(some.cases) - 1
    with pytest.raises(BadParameter, match="the 10 training images"):
        influence_of(found, scans[:4])
    with pytest.raises(BadImage, match="maps of the training images"):
        influence_of(found, scans, 1, [pl.explain(net, torch.rand(1, *[8] * dims), 0, method="saliency", evidence="none")])
