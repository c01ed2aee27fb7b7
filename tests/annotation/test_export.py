"""Exports against readers that are not ours: COCO by a slow decoder, NIfTI by nibabel, DICOM Segmentation by highdicom and dciodvfy."""

import json

import nibabel
import numpy as np
import pytest
import torch
from tests.io.derived import errors_in
from tests.io.dicoms import write_series

import pellucid as pl
from pellucid.annotation import Annotation, Finding, coco, labels, write_labels, write_segmentation
from pellucid.annotation.finding import runs_of
from pellucid.errors import BadFile, BadGrid
from pellucid.grid import Grid
from pellucid.image import Image


def annotated(shape, *findings):
    return Annotation(shape, (), findings)


def decoded(rle):
    """COCO's uncompressed run-length code, column after column."""
    tall, wide = rle["size"]
    flat, value = [], False
    for n in rle["counts"]:
        flat += [value] * n
        value = not value
    return np.array(flat).reshape(wide, tall).T


def test_coco_says_where_the_accepted_findings_are():
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]], dtype=torch.bool)
    a = annotated(
        (7, 9),
        Finding(1, (1, 4), (3, 7), "accepted", label="lesion", runs=runs_of(mask)),
        Finding(2, (4, 0), (6, 5), "accepted", origin="reader", label="bleeding"),
        Finding(3, (0, 0), (1, 1), "rejected"),
        Finding(4, (0, 0), (1, 1), "proposed"),
    )
    told = json.loads(json.dumps(coco([("eye.png", a), ("empty.png", annotated((5, 5)))])))
    assert [(p["file_name"], p["width"], p["height"]) for p in told["images"]] == [("eye.png", 9, 7), ("empty.png", 5, 5)]
    assert told["categories"] == [{"id": 1, "name": "bleeding"}, {"id": 2, "name": "lesion"}]
    first, second = told["annotations"]
    assert first["bbox"] == [4, 1, 3, 2] and second["bbox"] == [0, 4, 5, 2] and (first["area"], second["area"]) == (4, 10)
    wanted = np.zeros((7, 9), bool)
    wanted[1:3, 4:7] = mask
    assert np.array_equal(decoded(first["segmentation"]), wanted) and first["category_id"] == 2
    assert decoded(second["segmentation"])[4:6, 0:5].all() and decoded(second["segmentation"]).sum() == 10


def test_coco_has_a_picture_for_each_slice_of_a_volume():
    told = coco([("brain.nii.gz", annotated((6, 5, 4), Finding(1, (1, 0, 2), (3, 4, 4), "accepted")))])
    assert [(p["file_name"], p["slice"], p["width"], p["height"]) for p in told["images"]] == [
        ("brain.nii.gz#2", 2, 6, 5),
        ("brain.nii.gz#3", 3, 6, 5),
    ]
    assert [a["bbox"] for a in told["annotations"]] == [[1, 0, 2, 4]] * 2
    assert decoded(told["annotations"][0]["segmentation"])[0:4, 1:3].all()


def test_nifti_lies_on_the_scans_own_grid(tmp_path):
    affine = np.array([[-2.0, 0.1, 0, 30], [0, 2.5, 0.2, -40], [0.1, 0, 3, 5], [0, 0, 0, 1]])
    scan = Image(torch.randn(1, 6, 5, 4), Grid((6, 5, 4), tuple(map(tuple, affine.tolist())), "mm"), facts={"sided": True})
    a = annotated((6, 5, 4), Finding(2, (1, 0, 2), (3, 4, 4), "accepted"), Finding(5, (2, 3, 3), (4, 5, 4), "accepted"))
    path = write_labels(tmp_path / "findings.nii.gz", a, scan)
    read = nibabel.load(path)
    assert np.allclose(read.affine, affine, atol=1e-5)
    wanted = np.zeros((6, 5, 4))
    wanted[2:4, 3:5, 3:4] = 5
    wanted[1:3, 0:4, 2:4] = 2  # where they meet the lower number has it
    assert np.array_equal(np.squeeze(read.get_fdata()), wanted) and np.array_equal(labels(a).numpy(), wanted)
    with pytest.raises(BadGrid):
        write_labels(tmp_path / "other.nii.gz", a, Image(torch.zeros(1, 4, 4, 4)))


def test_dicom_segmentation_has_a_segment_for_each_finding_where_it_was_drawn(tmp_path):
    import highdicom

    write_series(tmp_path / "ct", np.random.default_rng(0).integers(0, 900, (6, 16, 20)).astype(np.int16))
    scan = pl.read(tmp_path / "ct")
    shape = scan.grid.shape
    mask = torch.zeros(4, 5, 2, dtype=torch.bool)
    mask[0, 0, 0] = mask[3, 4, 1] = mask[1:3, 1:4] = True
    findings = (
        Finding(1, (2, 3, 1), (6, 8, 3), "accepted", label="nodule", runs=runs_of(mask)),
        Finding(4, (0, 0, 0), (3, 2, 1), "accepted", origin="reader", label="nodule"),
    )
    (tmp_path / "out").mkdir()
    path = write_segmentation(tmp_path / "out", annotated(shape, *findings), scan, tmp_path / "ct")
    seg = highdicom.seg.segread(path)
    assert seg.number_of_segments == 2 and [s.SegmentLabel for s in seg.SegmentSequence] == ["nodule 1", "nodule 4"]
    volume = seg.get_volume(combine_segments=False)
    for n, f in enumerate(findings):
        ours = f.mask(shape).nonzero().double() @ torch.from_numpy(scan.grid.matrix[:3, :3]).T + torch.from_numpy(scan.grid.matrix[:3, 3])
        at = np.argwhere(volume.array[..., n] > 0)
        theirs = (volume.affine @ np.c_[at, np.ones(len(at))].T)[:3].T * [-1, -1, 1]  # LPS to RAS
        assert len(at) == f.size
        assert np.allclose(sorted(map(tuple, ours.numpy().round(3))), sorted(map(tuple, theirs.round(3))), atol=2e-3)
    assert "Pat" not in str(seg.PatientName) and str(seg.PatientID).startswith("PELLUCID-")
    assert errors_in(path) == []
    with pytest.raises(BadFile, match="none"):
        write_segmentation(tmp_path / "out", annotated(shape), scan, tmp_path / "ct")
    with pytest.raises(BadFile, match="memory"):
        write_segmentation(
            tmp_path / "out", annotated((4, 4, 4), Finding(1, (0, 0, 0), (1, 1, 1), "accepted")), Image(torch.zeros(1, 4, 4, 4)), tmp_path
        )
