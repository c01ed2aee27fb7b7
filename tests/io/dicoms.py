"""Synthetic DICOM files: small, valid, with names and places of our choosing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

CT, MR, PT, CR = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.128",
    "1.2.840.10008.5.1.4.1.1.1",
)
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
SECRET = "Doe^Jane"


def oblique(a: float = 17.0, b: float = 11.0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Row and column direction of a double-oblique plane."""
    a, b = np.radians(a), np.radians(b)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]]
    )
    return tuple(turn[:, 0].tolist()), tuple(turn[:, 1].tolist())


def bare(pixels: np.ndarray, sop: str = CT, modality: str = "CT", **elements: object) -> Dataset:
    """A single-frame gray dataset; keyword elements overwrite or, if None, remove."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds = Dataset()
    ds.file_meta = meta
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop, meta.MediaStorageSOPInstanceUID, modality
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = SECRET, "ID-4711", "19610203"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.9"
    ds.StudyDate, ds.SeriesDescription, ds.InstitutionName = "20200102", "SecretDescription", "SecretHospital"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.astype("<i2" if pixels.dtype.kind == "i" else "<u2").tobytes()
    for name, value in elements.items():
        if value is None:
            ds.pop(name, None)
        else:
            setattr(ds, name, value)
    return ds


def save(ds: Dataset, path: Path) -> Path:
    ds.save_as(path, enforce_file_format=True)
    return path


def write_series(
    folder: Path,
    volume: np.ndarray,  # (slices, rows, columns), ascending along the normal
    axes: tuple[tuple[float, ...], tuple[float, ...]] = AXIAL,
    spacing: tuple[float, float, float] = (2.5, 0.7, 0.9),  # slices, rows, columns
    origin: tuple[float, float, float] = (-31.0, 12.0, 55.0),
    *,
    seed: int = 0,
    skip: tuple[int, ...] = (),
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0),  # per slice, off the normal: gantry tilt
    modality: str = "CT",
    per_slice: dict[int, dict[str, object]] | None = None,
    **elements: object,
) -> np.ndarray:
    """Shuffled names and instance numbers; returns the true affine (slice, row, column index) -> LPS mm."""
    folder.mkdir(parents=True, exist_ok=True)
    row, column = (np.array(a) for a in axes)
    normal = np.cross(row, column)
    names = np.random.default_rng(seed).permutation(len(volume))
    for k in range(len(volume)):
        if k in skip:
            continue
        place = np.array(origin) + k * (spacing[0] * normal + np.array(shift))
        ds = bare(
            volume[k],
            {"CT": CT, "MR": MR, "PT": PT}[modality],
            modality,
            ImagePositionPatient=[float(f"{v:.6f}") for v in place],
            ImageOrientationPatient=[float(f"{v:.9f}") for v in (*row, *column)],
            PixelSpacing=[spacing[1], spacing[2]],
            SliceThickness=spacing[0],
            InstanceNumber=int(names[k]),
            RescaleSlope=1,
            RescaleIntercept=-1024,
            **{"WindowCenter": 40, "WindowWidth": 400, **elements, **(per_slice or {}).get(k, {})},
        )
        save(ds, folder / f"im{names[k]:03d}.dcm")
    affine = np.eye(4)
    affine[:3, 0] = normal * spacing[0] + np.array(shift)
    affine[:3, 1], affine[:3, 2], affine[:3, 3] = column * spacing[1], row * spacing[2], origin
    return affine


def group(**elements: object) -> Sequence:
    item = Dataset()
    for name, value in elements.items():
        setattr(item, name, value)
    return Sequence([item])


def enhanced(
    volume: np.ndarray,
    axes: tuple[tuple[float, ...], tuple[float, ...]],
    spacing: tuple[float, float, float],
    origin: tuple[float, float, float],
    order: list[int],
    slopes: list[float],
) -> Dataset:
    """A multi-frame MR: frames in a given order, each with its own rescale."""
    ds = bare(volume[order], ENHANCED_MR, "MR", NumberOfFrames=len(order))
    row, column = (np.array(a) for a in axes)
    normal = np.cross(row, column)
    shared = Dataset()
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=[float(f"{v:.9f}") for v in (*row, *column)])
    shared.PixelMeasuresSequence = group(PixelSpacing=[spacing[1], spacing[2]], SliceThickness=spacing[0])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for k in order:
        frame = Dataset()
        frame.PlanePositionSequence = group(ImagePositionPatient=[float(f"{v:.6f}") for v in np.array(origin) + k * spacing[0] * normal])
        frame.PixelValueTransformationSequence = group(RescaleSlope=slopes[k], RescaleIntercept=0, RescaleType="US")
        frame.FrameVOILUTSequence = group(WindowCenter=100, WindowWidth=50)
        frames.append(frame)
    ds.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return ds
