"""Concepts saved and loaded again: every number, what can still be asked, what is refused, what is never written."""

import json
import math

import numpy as np
import pytest
import torch
from tests.concepts.conftest import picture, pictures
from torch import nn

import pellucid as pl
from pellucid.concepts import (
    ConceptBank,
    Concepts,
    Discovered,
    Regions,
    Regression,
    concept_region,
    discover_concepts,
    regression_concept,
    tcav,
)
from pellucid.errors import BadFile, BadModel, BadParameter, BadTarget
from pellucid.findings import Finding
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.report import concepts_of


@pytest.fixture(scope="module")
def bank():
    who = {"spot": [f"Miller {i}" for i in range(6)], "random": [f"Meyer {i}" for i in range(120)]}
    return ConceptBank.of({"spot": pictures(6, True, 0)}, random=pictures(120, False, 100), patients=who)


@pytest.fixture(scope="module")
def found(trained, difference, bank):
    return tcav(trained, bank, pictures(9, True, 300), [1, difference, "spot"], sites=["1", "3"], randoms=19)


def same(a, b):
    """Whether two values hold the same numbers and words, arrays and nan among them."""
    if isinstance(a, (np.ndarray, torch.Tensor)):
        return a.dtype == b.dtype and np.array_equal(np.asarray(a), np.asarray(b))
    if isinstance(a, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_every_number_comes_back_and_one_image_can_be_asked_about(found, trained, tmp_path):
    path = found.save(tmp_path / "concepts.json")
    again = Concepts.load(path, trained)
    assert again.rows == found.rows and again.notes == found.notes and again.provenance == found.provenance
    assert again.provenance.weights == trained.fingerprint
    assert (again.network, again.pool, again.direction, again.alpha) == (found.network, found.pool, found.direction, found.alpha)
    assert again.compasses.keys() == found.compasses.keys()
    for key, compass in found.compasses.items():
        assert same(again.compasses[key].directions, compass.directions) and again.compasses[key].apart == compass.apart
    scan = picture(True, 777)
    assert again.sensitivities(trained, scan) == found.sensitivities(trained, scan)
    assert again.bank.fingerprint == found.bank.fingerprint and again.bank.sizes() == found.bank.sizes()
    for one, other in zip(concepts_of(again), concepts_of(found), strict=True):
        assert one.sentence == other.sentence and len(one.examples) == len(other.examples)
        assert all(torch.equal(a.values, b.values) and a.grid == b.grid for a, b in zip(one.examples, other.examples, strict=True))
    assert again.save(tmp_path / "again.json").read_text() == path.read_text(), "nothing is lost on the second way"


def test_people_can_read_it_and_no_patient_is_in_it(found, tmp_path):
    path = found.save(tmp_path / "concepts.json")
    told = json.loads(path.read_text(), parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert [r["sentence"] for r in told["rows"]] == list(found.sentences())
    assert {"concept", "site", "target", "score", "p", "null", "verdict"} < told["rows"][0].keys()
    files = b"".join(p.read_bytes() for p in tmp_path.iterdir())
    assert not any(name in files for name in (b"Miller", b"Meyer"))
    assert "bank" not in found.facts() and json.dumps(found.facts(), allow_nan=False)


def test_another_network_is_refused(found, trained, tmp_path):
    path = found.save(tmp_path / "concepts.json")
    other = pl.Model(nn.Sequential(*trained.module, nn.Identity()), classes=trained.classes)
    with pytest.raises(BadModel, match="concepts of this network"):
        Concepts.load(path, other)
    with pytest.raises(BadModel, match="concepts of this network"):
        Concepts.load(path).sensitivities(other, picture(True, 1))
    described = pl.Model(trained.module, classes=trained.classes, normalize=pl.Normalize(0.1))
    with pytest.raises(BadModel, match="concepts of this network"):
        Concepts.load(path, described)


def test_damage_is_told(found, tmp_path):
    path = found.save(tmp_path / "concepts.json")
    text, beside = path.read_text(), path.with_suffix(".safetensors")
    data = beside.read_bytes()
    where = data.rfind(b"\x3f")
    beside.write_bytes(data[:where] + b"\x3e" + data[where + 1 :])
    with pytest.raises(BadFile, match="other bytes"):
        Concepts.load(path)
    beside.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadFile, match="other bytes"):
        Concepts.load(path)
    beside.unlink()
    with pytest.raises(BadFile, match="Keep both files together"):
        Concepts.load(path)
    beside.write_bytes(data)
    changed = text.replace('"verdict": "', '"verdict": "not ', 1)
    assert changed != text
    for broken, words in ((changed, "other contents"), (text[: len(text) // 2], "no JSON"), ("[]", "something else"), ("", "no JSON")):
        path.write_text(broken)
        with pytest.raises(BadFile, match=words):
            Concepts.load(path)
    with pytest.raises(BadFile, match="No such file"):
        Concepts.load(tmp_path / "nothing.json")


def sealed(path, **changes):
    """A file whose seal is right and whose contents are not."""
    from pellucid.findings import SEAL, _seal

    told = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(told | {SEAL: _seal(told)}))


def test_what_is_no_such_finding_is_refused(found, tmp_path):
    path = found.save(tmp_path / "concepts.json")
    with pytest.raises(BadFile, match="regions in .*; got 'concepts'"):
        Regions.load(path)
    assert isinstance(Finding.load(path), Concepts), "any kind"
    sealed(path, version=99)
    with pytest.raises(BadFile, match="version 99, newer"):
        Concepts.load(path)
    sealed(path, version=1, rows=[{"concept": 3}])
    with pytest.raises(BadFile, match="concepts"):
        Concepts.load(path)
    with pytest.raises(BadParameter, match=r"saved as \.json"):
        found.save(tmp_path / "concepts.npz")
    with pytest.raises(BadFile, match="no folder"):
        found.save(tmp_path / "nowhere" / "concepts.json")
    (tmp_path / "mine.json").write_text('{"mine": 1}')
    with pytest.raises(BadFile, match="no finding"):
        found.save(tmp_path / "mine.json")
    assert (tmp_path / "mine.json").read_text() == '{"mine": 1}'


def test_a_target_that_text_cannot_hold_is_asked_for(trained, bank, tmp_path):
    made = tcav(trained, bank, pictures(5, True, 300), lambda out: out[:, 1] - out[:, 0], sites="3", randoms=5)
    again = Concepts.load(made.save(tmp_path / "concepts.json"))
    scan = picture(True, 777)
    with pytest.raises(BadTarget, match="text can hold"):
        again.sensitivities(trained, scan)
    assert again.sensitivities(trained, scan, 1)[0].target == "spot"


def test_the_other_results_too(trained, difference, bank, tmp_path):
    scans = pictures(12, True, 300)
    regions = concept_region(trained, bank, scans[:5], difference, sites="3", randoms=5, permutations=9)
    again = Regions.load(regions.save(tmp_path / "regions.json"), trained)
    assert again.rows == regions.rows and again.sentences() == regions.sentences() and again.provenance == regions.provenance
    measured = regression_concept(trained, scans, [float(s.max()) for s in scans], 1, sites="3", permutations=9)
    back = Regression.load(measured.save(tmp_path / "regression.json"), trained)
    assert back.rows == measured.rows and str(back.table()) == str(measured.table())
    assert not (tmp_path / "regions.safetensors").exists(), "nothing large"
    grid = Grid.spaced((24, 24), (0.5, 0.5))
    large = [Image(x, grid) for x in pictures(12, True, 500, size=24)]
    pieces = discover_concepts(trained, large, difference, site="1", sizes=("1.5mm",), clusters=2)
    loaded = Discovered.load(pieces.save(tmp_path / "pieces.json"), trained)
    assert loaded.rows == pieces.rows and loaded.pieces == pieces.pieces and loaded.sentences() == pieces.sentences()
    for one, other in zip(loaded, pieces, strict=True):
        assert one.sensitivities(trained, large[0]) == other.sensitivities(trained, large[0])
