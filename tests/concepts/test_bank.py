"""Banks: where concepts come from, what they are told apart by, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image as Picture

from pellucid.concepts import ConceptBank, Examples
from pellucid.concepts.counterparts import draw, shuffled
from pellucid.errors import BadFile, BadImage, BadParameter
from pellucid.grid import Grid
from pellucid.image import Image


def noise(n, seed=0, dims=2, channels=1, size=10):
    chance = torch.Generator().manual_seed(seed)
    return [torch.rand(channels, *[size] * dims, generator=chance) for _ in range(n)]


def write(folder, n, seed):
    folder.mkdir(parents=True)
    for i in range(n):
        values = np.random.default_rng(seed + i).integers(0, 255, (9, 9, 3), dtype=np.uint8)
        Picture.fromarray(values).save(folder / f"p{i // 2}_{i}.png")


def test_folders(tmp_path):
    write(tmp_path / "exudates", 6, 0)
    write(tmp_path / "bleeding", 5, 100)
    write(tmp_path / "random", 12, 200)
    (tmp_path / ".hidden").mkdir()
    bank = ConceptBank.from_folders(tmp_path, patient=lambda p: p.name.split("_")[0])
    assert bank.names == ("bleeding", "exudates")
    assert dict(bank.sizes()) == {"bleeding": 5, "exudates": 6, "random": 12}
    assert bank["exudates"].patients == ("p0", "p0", "p1", "p1", "p2", "p2")
    assert bank.shown("exudates", 2)[0].values.shape == (3, 9, 9)
    again = ConceptBank.from_folders(tmp_path, patient=lambda p: p.name.split("_")[0])
    assert again.fingerprint == bank.fingerprint
    Picture.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / "exudates" / "p0_0.png")
    assert ConceptBank.from_folders(tmp_path).fingerprint != bank.fingerprint, "the same names, other pixels"


def test_a_table(tmp_path):
    write(tmp_path / "all", 17, 0)
    Picture.fromarray(np.eye(9, dtype=np.uint8) * 255).save(tmp_path / "mask.png")
    files = sorted(p.name for p in (tmp_path / "all").iterdir())
    rows = [f"all/{f},{'red' if i < 6 else 'random'},{f.split('_')[0]},{'mask.png' if i < 6 else ''}" for i, f in enumerate(files)]
    table = tmp_path / "concepts.csv"
    table.write_text("\n".join(["image,concept,patient,mask", *rows]))
    bank = ConceptBank.from_table(table)
    assert dict(bank.sizes()) == {"red": 6, "random": 11} and bank["red"].patients[0] == "p0"
    assert bank.masked and bank["red"].masks[0].sum() == 9
    for text, said in (
        ("picture,concept\nall/a.png,red", "a column 'image'"),
        ("image,concept\nall/nowhere.png,red", "the file named in line 2"),
        ("image,concept\n" + f"all/{files[0]},", "a value of 'concept' in line 2"),
    ):
        table.write_text(text)
        with pytest.raises(BadFile, match=said):
            ConceptBank.from_table(table)
    with pytest.raises(BadFile, match="a table of concepts"):
        ConceptBank.from_table(tmp_path / "none.csv")


@pytest.mark.parametrize("dims", [2, 3])
def test_lesions_as_patches_of_one_physical_size(dims):
    spacing = (0.5, 1.0, 2.0)[:dims]
    scans, masks = [], []
    for i, values in enumerate(noise(6, dims=dims, size=24)):
        scans.append(Image(values, Grid.spaced((24,) * dims, spacing)))
        mask = torch.zeros((24,) * dims, dtype=torch.bool)
        mask[(slice(2, 4 + i % 2),) * dims] = True
        mask[(slice(16, 21),) * dims] = True
        masks.append(mask)
    bank = ConceptBank.from_masks(scans, {"lesion": masks}, size="4mm", randoms=3, most=2)
    edge = (8, 4, 2)[:dims]
    assert {tuple(s.values.shape[1:]) for e in (bank["lesion"], bank.random) for s in e.scans} == {edge}
    assert len(bank["lesion"]) == 12 and bank["lesion"].patients == tuple(i for i in range(6) for _ in range(2))
    first = bank["lesion"].scans[0]  # the largest lesion, in the middle of the patch
    center = tuple(18.0 * s for s in spacing)
    assert np.allclose(first.grid.world([(e - 1) / 2 for e in edge])[:dims], center, atol=1.01 * max(spacing))
    for patch, i in zip(bank.random.scans, bank.random.patients, strict=True):
        start = tuple(round(v / s) for v, s in zip(patch.grid.world((0,) * dims)[:dims], spacing, strict=True))
        cut = tuple(slice(a, a + e) for a, e in zip(start, edge, strict=True))
        assert torch.equal(patch.values, scans[i].values[(slice(None), *cut)]) and not masks[i][cut].any()


@pytest.mark.parametrize("dims", [2, 3])
def test_lesions_as_masks_that_move_elsewhere(dims):
    scans = noise(6, dims=dims, size=16)
    masks = []
    for _ in scans:
        mask = torch.zeros((16,) * dims, dtype=torch.bool)
        mask[(slice(2, 6), *[slice(3, 6)] * (dims - 1))] = True
        masks.append(mask)
    inside = torch.zeros((16,) * dims, dtype=torch.bool)
    inside[:15] = True
    bank = ConceptBank.from_masks(scans, {"lesion": masks}, randoms=4, within=[inside] * 6)
    assert len(bank["lesion"]) == 6 and len(bank.random) == 24
    for mask, scan, i in zip(bank.random.masks, bank.random.scans, bank.random.patients, strict=True):
        assert mask.sum() == masks[0].sum() and not (mask & masks[i]).any() and not (mask & ~inside).any()
        assert scan is scans[i]
    assert len({tuple(m.nonzero()[0].tolist()) for m in bank.random.masks}) > 10


def test_random_sets_share_no_image_and_no_patient_with_another_or_with_the_concept():
    concept = Examples("c", tuple(noise(8)), tuple("aabbccdd"))
    random = Examples("random", tuple(noise(200, 1)), tuple(f"r{i // 2}" for i in range(200)))
    drawn = draw(concept, random, 50, 0)
    assert len(drawn.sets) == 25 and not drawn.matched and {len(s) for s in drawn.sets} == {8}
    flat = np.concatenate(drawn.sets)
    assert len(set(flat.tolist())) == len(flat)
    owners = [{random.patients[i] for i in s} for s in drawn.sets]
    assert sum(map(len, owners)) == len(set().union(*owners))
    assert [s.tolist() for s in draw(concept, random, 50, 0).sets] == [s.tolist() for s in drawn.sets]
    assert [s.tolist() for s in draw(concept, random, 50, 1).sets] != [s.tolist() for s in drawn.sets]


def test_random_sets_are_matched_by_patient_where_they_can_be():
    concept = Examples("c", tuple(noise(6)), tuple("aaabbc"))
    random = Examples("random", tuple(noise(180, 1)), tuple("abc"[i % 3] for i in range(180)))
    drawn = draw(concept, random, 50, 0)
    assert drawn.matched and len(drawn.sets) == 20
    for s in drawn.sets:
        assert sorted(random.patients[i] for i in s) == list("aaabbc")
    assert len(set(np.concatenate(drawn.sets).tolist())) == 120


def test_patients_on_both_sides_are_left_out_or_refused():
    concept = Examples("c", tuple(noise(6)), tuple("aaabbc"))
    random = Examples("random", tuple(noise(200, 1)), tuple("abc"[i % 3] if i < 30 else f"r{i}" for i in range(200)))
    drawn = draw(concept, random, 50, 0)
    assert all(i >= 30 for s in drawn.sets for i in s) and "30 random images of patients who are in 'c'" in drawn.notes[0]
    few = draw(concept, Examples("random", random.scans[:36], random.patients[:36]), 50, 0)
    assert few.matched and len(few.sets) == 3, "a test without power, but of the right patients"
    with pytest.raises(BadImage, match="patients on one side"):
        draw(concept, Examples("random", random.scans[:9], random.patients[:9]), 50, 0)
    with pytest.raises(BadImage, match="random images for two sets"):
        draw(Examples("c", concept.scans), Examples("random", random.scans[:9]), 50, 0)


def test_smaller_sets_where_random_images_are_few_and_a_word_about_it():
    drawn = draw(Examples("c", tuple(noise(20))), Examples("random", tuple(noise(200, 1))), 50, 0)
    assert len(drawn.sets) >= 19 and {len(s) for s in drawn.sets} == {len(drawn.own)} == {10} and "10 of 20" in drawn.notes[0]
    drawn = draw(Examples("c", tuple(noise(20))), Examples("random", tuple(noise(40, 1))), 50, 0)
    assert len(drawn.sets) == 8 and len(drawn.own) == 5


def test_labels_dealt_anew_keep_patients_whole():
    rng = np.random.default_rng(0)
    who = list("aaabbbcccddd")
    labels = np.array([True] * 6 + [False] * 4 + [True, False])
    for _ in range(20):
        dealt = shuffled(labels, who, rng)
        for p in "abc":
            assert len({bool(d) for d, w in zip(dealt, who, strict=True) if w == p}) == 1
        assert sum(bool(d) for d, w in zip(dealt, who, strict=True) if w == "d") == 1
    assert shuffled(labels, None, rng).sum() == 7


def test_what_makes_no_bank_is_told():
    few, some, other = noise(4), noise(6, 1), noise(12, 2)
    with pytest.raises(BadImage, match="at least 5 images of 'c'; got 4"):
        ConceptBank.of({"c": few}, random=other)
    with pytest.raises(BadImage, match="images to hold the concept against"):
        ConceptBank.of({"c": some})
    with pytest.raises(BadParameter, match="at least one concept"):
        ConceptBank.of({}, random=other)
    with pytest.raises(BadImage, match=r"2D with 1 channels in .*3D with 1 channels in 'random'"):
        ConceptBank.of({"c": some}, random=noise(12, dims=3))
    with pytest.raises(BadImage, match="1 on both sides"):
        ConceptBank.of({"c": some}, random=[*other, some[2].clone()])
    with pytest.raises(BadParameter, match="patients for all sets"):
        ConceptBank.of({"c": some}, random=other, patients={"c": list(range(6))})
    with pytest.raises(BadParameter, match="a patient for each image of 'c'"):
        ConceptBank.of({"c": some}, random=other, patients={"c": [1], "random": list(range(12))})
    with pytest.raises(BadParameter, match="under the concepts' names"):
        ConceptBank.of({"c": some}, random=other, masks={"d": []})
    with pytest.raises(BadImage, match="a mask with something in it"):
        ConceptBank.of({"c": some}, random=other, masks={"c": [torch.zeros(10, 10, dtype=torch.bool)] * 6})
    with pytest.raises(BadImage, match="a mask on the grid"):
        ConceptBank.of({"c": some}, random=other, masks={"c": [torch.ones(9, 10, dtype=torch.bool)] * 6})
    with pytest.raises(BadParameter, match="a name of its own"):
        ConceptBank.of({"random": some}, random=other)
    with pytest.raises(KeyError, match="no concept 'd'"):
        ConceptBank.of({"c": some}, random=other)["d"]
    with pytest.raises(BadParameter, match="a mask of 'c' for each of 6 scans"):
        ConceptBank.from_masks(some, {"c": [None]})
    with pytest.raises(BadParameter, match="knows its spacing"):
        ConceptBank.from_masks(some, {"c": [torch.ones(10, 10, dtype=torch.bool)] * 6}, size="2mm")
    with pytest.raises(BadImage, match=r"a scan larger than a patch of '20px', 20 x 20 samples; got 10 x 10 \(scan 0\)"):
        ConceptBank.from_masks(some, {"c": [torch.ones(10, 10, dtype=torch.bool)] * 6}, size="20px")


def test_folders_that_are_none(tmp_path):
    with pytest.raises(BadFile, match="a folder with a folder for each concept"):
        ConceptBank.from_folders(tmp_path / "nowhere")
    with pytest.raises(BadFile, match="a folder for each concept"):
        ConceptBank.from_folders(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFile, match="an empty folder"):
        ConceptBank.from_folders(tmp_path)


def test_lesions_that_cannot_be_used_are_told(tmp_path):
    scans = noise(6, size=10)
    some, none, full = torch.zeros(10, 10, dtype=torch.bool), torch.zeros(10, 10), torch.ones(10, 10)
    some[2:5, 2:5] = True
    with pytest.raises(BadImage, match=r"at least 5 scans with a mask of 'x'; got 3 from 6 scans: 2 masks are empty, 1 scans have none"):
        ConceptBank.from_masks(scans, {"x": [some, some, some, none, none, None]})
    with pytest.raises(BadImage, match=r"at least 5 patches of '4px' of 'y'; got 0 from 6 scans: 6 masks are empty"):
        ConceptBank.from_masks(scans, {"x": [some] * 6, "y": [none] * 6}, size="4px")
    with pytest.raises(
        BadImage, match=r"places for random patches of '6px', away from all lesions; got none in any of 6 scans.*size= smaller"
    ):
        ConceptBank.from_masks(scans, {"x": [some] * 6}, size="6px")
    with pytest.raises(BadImage, match=r"places for random masks.*got none"):
        ConceptBank.from_masks(scans, {"x": [full] * 6})
    with pytest.raises(BadImage, match=r"places for random patches"):
        ConceptBank.from_masks(scans, {"x": [some] * 6}, size="3px", within=[none] * 6)
    with pytest.raises(BadImage, match=r"a mask of 'x' of the size of its scan \(scan 2\); got 8 x 9 for 10 x 10 samples"):
        ConceptBank.from_masks(scans, {"x": [some, some, torch.ones(8, 9), some, some, some]})
    with pytest.raises(BadImage, match=r"a mask within= of the size of its scan \(scan 0\)"):
        ConceptBank.from_masks(scans, {"x": [some] * 6}, within=[torch.ones(3, 3)] * 6)
    small = Image(torch.ones(1, 5, 5))  # pixels that say no place are not laid into a corner
    with pytest.raises(BadImage, match=r"of the size of its scan \(scan 0\); got 5 x 5"):
        ConceptBank.from_masks(scans, {"x": [small] * 6})
    with pytest.raises(BadParameter, match="a name of its own"):
        ConceptBank.from_masks(scans, {"random": [some] * 6})
    placed = Image(torch.zeros(1, 10, 10).float()).crop([2, 2], [5, 5])
    bank = ConceptBank.from_masks(scans, {"x": [placed.with_values(torch.ones(1, 3, 3))] * 6}, randoms=1)
    assert all(torch.equal(m, some) for m in bank["x"].masks), "a cut knows where it lies"
