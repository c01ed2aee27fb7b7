"""``pellucid prototypes`` as the page has it, on phantom networks; the page of findings; what is refused."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from tests.pages import followed, told
from torch import nn

import pellucid as pl
from pellucid.errors import BadFile, BadParameter
from pellucid.prototypes import Dissection, Traces, filters, unit_traces
from pellucid.report import write_findings

COMMANDS = ("filters", "maximize", "maco", "invert", "dissect", "trace")
WRITTEN = {"prototypes.html", "table.csv", "figure.png", "sentences.txt"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The blocks of the page's last part, run as they stand; what each command printed."""
    folder, patch = tmp_path_factory.mktemp("page"), pytest.MonkeyPatch()
    patch.syspath_prepend(str(folder))
    lines = followed("prototypes.md", folder, patch, part="From the command line")
    yield folder, {line.split()[2]: printed for line, printed in lines.items()}
    patch.undo()
    sys.modules.pop("rhythm", None)


def test_every_command_stands_on_the_page_and_writes_what_it_says(page):
    folder, printed = page
    assert tuple(printed) == COMMANDS
    for command, text in printed.items():
        files = {p.name for p in (folder / command).iterdir()}
        assert files >= WRITTEN and len([f for f in files if f.endswith(".json")]) == 1, command
        said = (folder / command / "sentences.txt").read_text()
        assert said.strip().splitlines()[0] in text
        html = (folder / command / "prototypes.html").read_text()
        assert "http" not in re.sub(r"http-equiv|http://www.w3.org/\S+", "", html.split("<style>")[0]) and "film0" not in html


def test_the_table_finds_the_planted_lesion_and_the_units_that_follow(page):
    folder, _ = page
    units = Dissection.load(folder / "dissect/dissection.json")
    assert {r.concept for r in units.detectors} & {"infiltration", "effusion"} and units.rows[0].patients == 6
    course = Traces.load(folder / "trace/traces.json")
    assert course.unit == "s" and course.at[-1] == pytest.approx(0.59) and course.state == "cell" and course.sequences == 5
    assert np.flatnonzero(course.event).tolist() == list(range(20, 26))


def test_facts_as_json(page):
    folder, _ = page
    given = ["filters", "--model", "phantom:chest", "--site", "features.0.0", "--out", folder / "again", "--json"]
    facts = json.loads(told("prototypes", *given).output)
    assert facts["kind"] == "filters" and len(facts["files"]) == 5


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (
            ["maximize", "--model", "phantom:chest", "--target", "effusion", "--images", "films.csv", "--with", "stops=3"],
            "--with takes start",
        ),
        (["dissect", "--model", "phantom:chest", "--masks", "nothing.csv"], "a table of masks"),
        (["dissect", "--model", "phantom:chest", "--masks", "rhythm0.npy"], "a table of masks"),
        (["filters", "--model", "phantom:chest", "--site", "head"], "a convolution at 'head'"),
        (["invert", "films.csv", "--model", "phantom:chest"], "one image to invert"),
        (["trace", "rhythm.py", "--model", "rhythm:Rhythm", "--trust", "--site", "memory", "--step", "0.01"], "a signal (c, t) as .npy"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(page, args, what):
    got = told("prototypes", *args, code=1)
    assert what in " ".join(got.stderr.split()) and len(got.stderr.strip().splitlines()) == 1


def test_pages_hold_one_network_and_replace_no_others(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 2))
    one = filters(net, "0")
    course = unit_traces(net, pl.Image(torch.rand(1, 6, 6)), "0")
    path = write_findings(tmp_path / "page.html", [one, course], title="<b>All</b>", note="seen")
    html = path.read_text()
    assert "&lt;b&gt;All" in html and html.count("<figure>") == 2 and one.sentences()[0] in html.replace("&#39;", "'")
    write_findings(path, one)
    other = filters(nn.Sequential(nn.Conv2d(1, 3, 3)), "0")
    for bad in ([], [one, other], ["page"]):
        with pytest.raises(BadParameter):
            write_findings(path, bad)
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(BadFile):
        write_findings(tmp_path / "mine.html", one)
