"""From stored DICOM samples to numbers that mean something: decoding, color, modality transform, padding, uptake."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from pellucid.errors import BadFile
from pellucid.io.content import Source, decoding
from pellucid.io.dicom.geometry import code, needed, numbers

DESCRIBING = """Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation PlanarConfiguration BitsAllocated BitsStored HighBit
    PixelRepresentation ExtendedOffsetTable ExtendedOffsetTableLengths""".split()
GRAY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class Scaling:
    """The modality transform of one frame: value = slope * stored + intercept, and the unit that the file claims (RescaleType)."""

    slope: float | None
    intercept: float
    unit: str


def decode(ds: Any, path: Source) -> tuple[np.ndarray, str]:
    """Stored samples as (frames, rows, columns[, 3]), YBR and palette turned into RGB; and the photometric interpretation they now have.

    Raises:
        BadFile: no pixels, too few bytes, a transfer syntax without a decoder, or samples that cannot be shown as gray or RGB.
    """
    from pydicom.pixels import apply_color_lut, get_decoder
    from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    with decoding("DICOM", path, private=True):
        if "PhotometricInterpretation" in ds and not code(ds, "PhotometricInterpretation"):
            raise BadFile(f"decode {path}", "an invalid photometric interpretation", "The header is corrupt: export it again.")
        for keyword in DESCRIBING:  # parsed here: what pydicom says of a value that it cannot parse quotes it
            ds.get(keyword)
        implicit, _ = ds.original_encoding
        named = ds.file_meta.get("TransferSyntaxUID")
        syntax = UID(named or (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian))
        if not named and "PixelData" in ds and ds["PixelData"].is_undefined_length:
            raise BadFile(f"decode {path}", "compressed pixels without a word how (no TransferSyntaxUID)", "Export it again.")
        try:
            decoder = get_decoder(syntax)
        except NotImplementedError:
            raise BadFile(
                f"decode {path}",
                f"transfer syntax {syntax.name if syntax.is_transfer_syntax else 'unknown'}",
                "Convert it: gdcmconv --raw in.dcm out.dcm.",
            ) from None
    if not decoder.is_available:
        got = f"transfer syntax {syntax.name}, for which no decoder is installed"
        raise BadFile(f"decode {path}", got, "Run `pip install pellucid[dicom]`.")
    if syntax.is_encapsulated:
        _check_streams(ds, path, whole=syntax.name.startswith("JPEG-LS"))
    try:
        with decoding("DICOM", path):  # a decoder's words are about bytes, not about the patient
            stored, now = decoder.as_array(ds)
    except BadFile as error:
        if not syntax.is_compressed:
            raise
        fix = "It is corrupt, or needs another decoder: `pip install pellucid[dicom]`, or convert it with gdcmconv --raw."
        raise BadFile(f"decode {path}", f"{syntax.name} data that the decoder refuses ({error.got})", fix) from None
    photometric = str(now["photometric_interpretation"])  # one of a fixed list: the decoder refuses others
    frames, declared = int(now.get("number_of_frames", 1) or 1), int(ds.get("NumberOfFrames", 1) or 1)
    if frames != declared:
        fix = "The header is corrupt: export it again."
        raise BadFile(f"decode {path}", f"pixels for {frames} frames where the header says {declared}", fix)
    if photometric == "PALETTE COLOR":
        with decoding("DICOM", path, private=True):
            stored, photometric = apply_color_lut(stored, ds)[..., :3], "RGB"
    color = photometric == "RGB"
    if not color and photometric not in GRAY:
        raise BadFile(f"decode {path}", f"photometric interpretation {photometric}", "Convert it to MONOCHROME2 or RGB.")
    if stored.ndim == (3 if color else 2):
        stored = stored[None]
    if stored.ndim != (4 if color else 3) or len(stored) != frames:
        raise BadFile(f"decode {path}", f"samples of shape {stored.shape} as {photometric}", "The header is corrupt: export it again.")
    return stored, photometric


def _check_streams(ds: Any, path: Source, *, whole: bool) -> None:
    """Each compressed frame says its size itself: where it is not that of the header, decoding may take minutes, or memory without end.

    ``whole`` wants an end mark: without one CharLS takes ten seconds to refuse a hundred bytes.
    """
    from pydicom.encaps import generate_frames

    with decoding("DICOM", path, private=True):
        want = int(ds.Rows), int(ds.Columns)
        for frame in generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames", 1) or 1)):
            if whole and not frame.rstrip(b"\0").endswith(b"\xff\xd9"):
                raise BadFile(f"decode {path}", "a compressed frame without its end", "It is truncated or corrupt: export it again.")
            found = _size_said(frame[:65536])
            if found not in (None, want):
                got = f"a compressed frame of {found} where the header says {want}"
                raise BadFile(f"decode {path}", got, "It is corrupt: copy or export it again.")


def _size_said(stream: bytes) -> tuple[int, int] | None:
    """(rows, columns) from the start of a JPEG 2000 (SIZ), JPEG or JPEG-LS (SOF) stream; None where there is none, as in RLE."""
    at = stream.find(b"\xff\x4f\xff\x51")
    if at >= 0 and len(stream) >= at + 24:
        right, bottom, left, top = struct.unpack_from(">4I", stream, at + 8)
        return bottom - top, right - left
    at = 2 if stream.startswith(b"\xff\xd8") else len(stream)
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        mark, size = stream[at + 1], struct.unpack_from(">H", stream, at + 2)[0]
        if mark == 0xF7 or (0xC0 <= mark <= 0xCF and mark not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack_from(">2H", stream, at + 5)
            return (rows, columns) if rows else None  # 0: said later, by a DNL segment
        at += 1 if mark == 0xFF else 2 + size
    return None


def surplus(ds: Any, stored: np.ndarray) -> int:
    """Bytes of bare pixel data beyond the last sample and its padding to an even length; 0 for compressed and packed samples."""
    found, bits = ds.get("PixelData"), int(ds.get("BitsAllocated", 0) or 0)
    if found is None or bits % 8 or ds["PixelData"].is_undefined_length or "422" in str(ds.get("PhotometricInterpretation", "")):
        return 0
    samples = int(ds.get("SamplesPerPixel", 1) or 1)
    need = int(np.prod(stored.shape[:3])) * samples * bits // 8
    return max(0, len(found) - need - need % 2)


def scaling(holder: Any, ds: Any, what: str) -> Scaling:
    """Rescale slope, intercept and type from a dataset (or a functional group), dose grids included."""
    dose = needed(ds, "DoseGridScaling", 1, what)
    if dose is not None:
        return Scaling(dose[0], 0.0, "GY" if code(ds, "DoseUnits") == "GY" else "a.u.")
    slope, intercept = needed(holder, "RescaleSlope", 1, what), needed(holder, "RescaleIntercept", 1, what)
    if slope is None and intercept is not None and intercept[0] != 0:
        raise BadFile(f"rescale {what}", "RescaleIntercept without RescaleSlope", "The header is corrupt: export it again.")
    kind = code(holder, "RescaleType")
    return Scaling(slope[0] if slope else None, intercept[0] if intercept else 0.0, kind)


def apply_modality(frame: np.ndarray, how: Scaling, ds: Any, path: Source) -> np.ndarray:
    """One frame in modality units, float32: a modality LUT if the file holds one, else the rescale (computed in float64)."""
    if ds.get("ModalityLUTSequence"):
        from pydicom.pixels import apply_modality_lut

        with decoding("DICOM", path, private=True):
            return np.asarray(apply_modality_lut(frame, ds)).astype(np.float32)
    if how.slope == 0:
        raise BadFile(f"rescale {path}", "RescaleSlope 0, which would make every value equal", "The header is corrupt: export it again.")
    if how.slope is None:
        return frame.astype(np.float32)
    return np.asarray(frame.astype(np.float64) * how.slope + how.intercept).astype(np.float32)


def padding(stored: np.ndarray, ds: Any) -> np.ndarray | None:
    """Where the scanner put padding instead of patient (PixelPaddingValue, with its range limit); None if the file names none."""
    low = numbers(ds, "FloatPixelPaddingValue", 1) or numbers(ds, "PixelPaddingValue", 1)
    if low is None or stored.ndim == 4:
        return None
    high = numbers(ds, "FloatPixelPaddingRangeLimit", 1) or numbers(ds, "PixelPaddingRangeLimit", 1) or low
    ends = [_as_stored(v, stored.dtype) for v in (*low, *high)]
    return np.asarray((stored >= min(ends)) & (stored <= max(ends)))


def _as_stored(value: float, dtype: np.dtype) -> float:
    """A padding value written unsigned beside signed samples, or the reverse, means the same bits."""
    if dtype.kind not in "iu":
        return value
    bits, limit = 8 * dtype.itemsize, np.iinfo(dtype)
    if value > limit.max:
        return value - 2.0**bits
    return value + 2.0**bits if value < limit.min else value


def quantity(ds: Any, how: Scaling, photometric: str) -> tuple[str, list[str]]:
    """What the numbers are: HU, SUV, Gy, BQML, intensity (color), or a.u."""
    modality = code(ds, "Modality")
    if photometric == "RGB":
        return "intensity", []
    if how.unit == "GY":
        return "Gy", []
    if modality == "CT" and how.unit in ("", "HU", "US"):
        if how.slope is None:
            return "a.u.", ["CT without rescale: the values are not Hounsfield units"]
        scout = ["a CT scout: its values are no calibrated Hounsfield units"] if "LOCALIZER" in str(ds.get("ImageType", "")) else []
        return ("a.u.", scout) if scout else ("HU", [])
    if modality == "CT":
        return "a.u.", [f"CT rescaled to {how.unit}, not to Hounsfield units"]
    if modality == "PT":
        units = _pet_units(ds, how)
        if units == "GML" and str(ds.get("SUVType", "BW") or "BW") == "BW":
            return "SUV", []
        return units, []
    return "a.u.", []


def _pet_units(ds: Any, how: Scaling) -> str:
    """Units of a PET image; an enhanced one has them as the type of its rescale (PS3.3 C.7.6.16.2.9)."""
    return code(ds, "Units") or (how.unit if how.unit in ("BQML", "GML", "CNTS", "CPS", "PROPCPS") else "a.u.")


def suv_factor(ds: Any, how: Scaling) -> tuple[float | None, str]:
    """Factor from Bq/ml to body-weight SUV (g/ml), or None and what is missing.

    SUV = activity * weight / dose, the dose decayed to the time that the images are corrected to: the start of the
    series (DecayCorrection START) or the injection (ADMIN). After the QIBA FDG-PET/CT profile, appendix on vendor-neutral SUV.
    """
    if (units := _pet_units(ds, how)) != "BQML":
        return None, f"units {units}"
    listed = str(ds.get("CorrectedImage", ""))
    for word, keyword in (("ATTN", "AttenuationCorrected"), ("DECY", "DecayCorrected")):
        if word not in listed and code(ds, keyword) != "YES":
            return None, "not corrected for attenuation and decay"
    drugs = ds.get("RadiopharmaceuticalInformationSequence") or []
    weight = numbers(ds, "PatientWeight", 1)
    if len(drugs) != 1 or weight is None or weight[0] <= 0:
        return None, "no body weight or no single radiopharmaceutical"
    dose, half_life = numbers(drugs[0], "RadionuclideTotalDose", 1), numbers(drugs[0], "RadionuclideHalfLife", 1)
    if dose is None or half_life is None or dose[0] <= 0 or half_life[0] <= 0:
        return None, "no injected dose or half-life"
    correction, at = code(ds, "DecayCorrection"), _moment(_local(ds.get("DecayCorrectionDateTime")))
    if at is not None:  # an enhanced PET image names the moment that it is corrected to
        start = drugs[0].get("RadiopharmaceuticalStartDateTime")
        injected = _moment(_local(start))
        known = injected is not None and str(start)[14:].lstrip(".0123456789") == str(ds.DecayCorrectionDateTime)[14:].lstrip(".0123456789")
        waited = (at - injected).total_seconds() if injected is not None and known else None
    else:
        waited = 0.0 if correction == "ADMIN" else _seconds_waited(ds, drugs[0]) if correction == "START" else None
    if waited is None or not 0 <= waited <= 20 * half_life[0]:
        return None, "no usable time between injection and scan"
    return weight[0] * 1000.0 / (dose[0] * 2.0 ** (-waited / half_life[0])), ""


def _seconds_waited(ds: Any, drug: Any) -> float | None:
    """Seconds from injection to the start of the series; a scan after midnight counts on."""
    scan = _moment(str(ds.get("SeriesDate", "")) + str(ds.get("SeriesTime", "")))
    acquired = _moment(str(ds.get("AcquisitionDate", "")) + str(ds.get("AcquisitionTime", "")))
    if scan is None or (acquired is not None and scan > acquired):
        return None  # SeriesTime was rewritten by later processing
    injected = _moment(_local(drug.get("RadiopharmaceuticalStartDateTime")))
    if injected is not None:
        return (scan - injected).total_seconds()
    injected = _moment(str(ds.get("SeriesDate", "")) + str(drug.get("RadiopharmaceuticalStartTime", "")))
    if injected is None:
        return None
    return (scan - injected + timedelta(days=1 if injected > scan else 0)).total_seconds()


def _local(found: Any) -> str:
    """A DT value without its offset from UTC."""
    return str(found or "").split("+")[0].split("-")[0]


def _moment(text: str) -> datetime | None:
    """YYYYMMDDHHMMSS[.ffffff] as a time, or None."""
    whole, _, part = text.partition(".")
    if len(whole) != 14 or not whole.isdigit():
        return None
    try:
        return datetime.strptime(whole, "%Y%m%d%H%M%S") + timedelta(seconds=float(f"0.{part or 0}"))
    except ValueError:
        return None
