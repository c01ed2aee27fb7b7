"""Secondary Capture: the overlay as a color picture that every PACS shows, with its warning, its words and its color bar in the pixels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from pellucid.io import picture
from pellucid.io.caption import ALARM as RED
from pellucid.io.caption import ALARMING
from pellucid.io.dicom.derived import UNPAIRED, WARNING, Derived
from pellucid.io.dicom.geometry import LPS_TO_RAS
from pellucid.io.dicom.origin import OPTIONAL, PATIENT, STUDY
from pellucid.table import percent

SOP_CLASS = "1.2.840.10008.5.1.4.1.1.7"
SIDE = 512  # pixels of a slice's longer edge, at least
BANNER, FOOT, COLUMN = 38, 108, 112
LEAST = 720  # pixels across, so that the words can be read
TOWARD = (("R", "L"), ("A", "P"), ("H", "F"))  # DICOM's letters for growing and falling R, A, S
ALARM = (255, 176, 32)


def captures(derived: Derived) -> Iterator[Any]:
    """One capture for each slice from the first to the last that reaches into a region; of a flat image the one.

    Position and orientation are those of the slice, so that viewers place it; its number is written into the picture as well.
    """
    origin = derived.origin
    grid = origin.grid
    base = picture.gray_of(origin.image, grid.shape)
    base = np.moveaxis(base, 2, 0) if grid.ndim == 3 else base[None]
    top = picture.top_of(derived.values)
    for number in shown(derived):
        made, spot, size = _draw(derived, base[number], number, top)
        yield _dataset(derived, made, number, spot, size)


def shown(derived: Derived) -> range:
    """Which slices are captured."""
    strong = np.abs(derived.values) >= derived.threshold * derived.top
    seen = np.flatnonzero(strong.any((1, 2)))
    return range(int(seen[0]), int(seen[-1]) + 1)


def _draw(derived: Derived, base: np.ndarray, number: int, top: float) -> tuple[Any, tuple[int, int], tuple[int, int]]:
    """The page, where on it the slice begins (x, y), and how large the slice is drawn (wide, tall)."""
    from PIL import Image as Pil
    from PIL import ImageDraw

    grid, values = derived.origin.grid, derived.values
    sample = (grid.spacing[0], grid.spacing[1])
    known = derived.origin.placed or bool(derived.origin.image.facts.get("sided"))
    panel = picture.Panel("", base, values[number], sample, _edges(derived) if known else ("",) * 4, None)
    longest = max(n * s for n, s in zip(base.shape, sample, strict=True))
    slice_drawn = picture.draw(panel, top, max(SIDE / longest, 1 / min(sample)), picture.BLUE_ORANGE)
    wide, tall = slice_drawn.size
    page = Pil.new("RGB", (max(wide + COLUMN, LEAST), BANNER + tall + FOOT), picture.PAPER)
    x = (page.width - COLUMN - wide) // 2
    page.paste(slice_drawn, (x, BANNER))
    pen = ImageDraw.Draw(page)
    pen.text((12, BANNER / 2), WARNING, fill=ALARM, font=picture.font(19), anchor="lm")
    inks = (RED if derived.verdict in ALARMING else picture.INK, picture.INK, picture.INK, picture.FAINT)
    for line, text in enumerate(_lines(derived, number)):
        font = picture.font(15 if line == 0 else 13, text)
        while pen.textlength(text, font=font) > page.width - 24:
            text = text[:-2] + "…"
        pen.text((12, BANNER + tall + 18 + 24 * line), text, fill=inks[line], font=font, anchor="lm")
    picture.bar(page, pen, page.width - COLUMN + 14, BANNER + 12, tall - 24, top, values, picture.BLUE_ORANGE)
    if grid.unit == "mm":
        picture.scale(pen, slice_drawn, panel, x + 10, BANNER + tall - 12)
    return page, (x, BANNER), (wide, tall)


def _lines(derived: Derived, number: int) -> tuple[str, ...]:
    """What the picture says beneath: target, what the colors mean, method, where it comes from."""
    facts, said = derived.facts, derived.said
    target = derived.target
    sure = ""
    if target in said["classes"] and len(facts["probabilities"]) == len(said["classes"]):
        sure = f" ({percent(facts['probabilities'][list(said['classes']).index(target)])})"
    place = f"slice {number + 1} of {len(derived.values)} along the normal  ·  " if len(derived.values) > 1 else ""
    weights = str(said.get("weights", ""))[:12]
    return (
        f"{target}{sure}  ·  evidence: {derived.verdict}",
        f"Orange {derived.signs[0]}, blue {derived.signs[1].removesuffix(' zero')}: {derived.meant}",
        derived.method,
        f"{place}network {said['model'] or 'unnamed'} {weights}  ·  pellucid {derived.version}",
    )


def _edges(derived: Derived) -> tuple[str, str, str, str]:
    """Letters at the left, right, top and bottom of a slice."""
    across, down = _letters(derived)
    turn = {a: b for pair in TOWARD for a, b in (pair, pair[::-1])}
    world = {"H": "S", "F": "I"}
    return tuple(world.get(s, s) for s in (turn[across], across, turn[down], down))  # type: ignore[return-value]


def _letters(derived: Derived) -> tuple[str, str]:
    """Toward what columns and rows grow, as PatientOrientation says it."""
    matrix = derived.origin.grid.matrix[:3]
    found = []
    for axis in (1, 0):
        w = int(np.argmax(np.abs(matrix[:, axis])))
        found.append(TOWARD[w][0 if matrix[w, axis] > 0 else 1])
    return found[0], found[1]


def _dataset(derived: Derived, page: Any, number: int, spot: tuple[int, int], size: tuple[int, int]) -> Any:
    """The picture as a Secondary Capture of the patient's, or the pseudonym's, study."""
    from pydicom.dataset import Dataset, FileMetaDataset

    origin = derived.origin
    head, pixels = origin.headers[0], np.asarray(page, np.uint8)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = SOP_CLASS
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = derived.uid("capture", str(number))
    ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    for keyword in (*PATIENT, *STUDY, "StudyInstanceUID", "PatientIdentityRemoved", "DeidentificationMethod", *OPTIONAL):
        if keyword in head:
            setattr(ds, keyword, head.get(keyword))
    ds.SpecificCharacterSet, ds.Modality, ds.ConversionType = "ISO_IR 192", "OT", "WSD"
    ds.SeriesInstanceUID, ds.SeriesNumber, ds.InstanceNumber = derived.uid("capture", "series"), 9903, number + 1
    ds.SeriesDescription, ds.ImageComments = derived.description, f"{derived.verdict}: {derived.method} of {derived.target}"
    if head.get("Laterality") or head.get("BodyPartExamined", "") not in UNPAIRED:
        ds.Laterality = str(head.get("Laterality", ""))
    made = derived.equipment()
    ds.Manufacturer, ds.ManufacturerModelName = made["manufacturer"], made["manufacturer_model_name"]
    ds.SoftwareVersions, ds.DeviceSerialNumber = made["software_versions"], made["device_serial_number"]
    ds.ImageType, ds.BurnedInAnnotation = ["DERIVED", "SECONDARY", "OTHER"], "YES" if origin.readable else "NO"
    ds.InstanceCreationDate = ds.InstanceCreationTime = ds.ContentDate = ds.ContentTime = None  # told, or not, by finish()
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.Rows, ds.Columns = pixels.shape[:2]
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.PixelRepresentation, ds.LossyImageCompression = 7, 0, "00"
    data = pixels.tobytes()
    ds.PixelData = data + b"\0" * (len(data) % 2)
    ds["PixelData"].VR = "OB"
    _place(derived, ds, number, spot, size)
    ds.SourceImageSequence = [_reference(origin.headers[number if len(origin.headers) > 1 else 0], derived, number)]
    return derived.finish(ds)


def _place(derived: Derived, ds: Any, number: int, spot: tuple[int, int], size: tuple[int, int]) -> None:
    """Where the picture lies: its slice is in the middle of a larger page, so the first pixel lies outside of the slice."""
    origin = derived.origin
    known = origin.placed or bool(origin.image.facts.get("sided"))
    ds.PatientOrientation = list(_letters(derived)) if known else ""
    if origin.grid.unit != "mm":
        return
    share = [n / m for n, m in zip(origin.grid.shape[:2], size[::-1], strict=True)]  # samples of the slice for a pixel: down, across
    spacing = [origin.grid.spacing[a] * share[a] for a in (0, 1)]
    ds.PixelSpacing = [_decimal(v) for v in spacing]
    if not origin.placed:
        return
    first = [-0.5 + share[a] * (0.5 - spot[1 - a]) for a in (0, 1)]  # index of the page's first pixel
    at = LPS_TO_RAS @ origin.grid.matrix @ np.array([*first, float(number), 1.0])
    ds.ImagePositionPatient = [_decimal(v) for v in at[:3]]
    ds.ImageOrientationPatient = [_decimal(v) for v in origin.directions]
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = origin.headers[0].FrameOfReferenceUID, ""
    if origin.grid.ndim == 3:
        ds.SliceThickness = _decimal(origin.grid.spacing[2])


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    text = f"{value:.10g}"
    return text if len(text) <= 16 else f"{value:.8g}"


def _reference(header: Any, derived: Derived, number: int) -> Any:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    if len(derived.origin.headers) == 1 and len(derived.values) > 1:
        item.ReferencedFrameNumber = derived.origin.order[number] + 1
    return item
