"""The door for scans: ``read`` and ``series``, by content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pellucid.errors import BadFile
from pellucid.image import Image
from pellucid.io.archive import image_from_archive
from pellucid.io.content import KNOWN, Kind, kind_of, load
from pellucid.io.dicom.series import Series, list_series
from pellucid.io.dicom.web import fetched, is_url, listed
from pellucid.io.nifti import read_nifti
from pellucid.io.raster import read_npy, read_picture, read_tiff

# beside DICOM, whose reader takes more words
READERS: dict[Kind, Callable[[bytes, str, Path], Image]] = {
    "NIfTI": read_nifti,
    "NPY": read_npy,
    "ZIP": image_from_archive,
    "TIFF": read_tiff,
    "PNG": read_picture,
    "JPEG": read_picture,
}


def read(
    path: str | Path,
    *,
    series: str | None = None,
    resample: bool = False,
    authorization: str | None = None,
    keep_phi: bool = False,
) -> Image:
    """A scan as an Image: a file of any known format, a folder that holds one DICOM series, or one on a DICOMweb server.

    The format is told by content, not by name. Values keep the numbers of the file (HU after rescale; 0..255 for a picture): no
    windowing, no inversion, no flip. Tensor axes: (row, column) for pictures and single slices, (row, column, slice)
    for DICOM volumes and TIFF stacks, (i, j, k) as stored for NIfTI; the grid's affine says where they lie, in RAS mm.

    Args:
        path: file, folder, or ``http(s)://host/dicom-web/studies/<uid>/series/<uid>``.
        series: of several DICOM series or stacks: a SeriesInstanceUID, ``"uid#2"``, or its number as ``series(path)`` counts.
        resample: True lets a tilted or unevenly spaced stack of slices be resampled (linearly) to a regular grid; otherwise it is refused.
        authorization: for a server: the value of the Authorization header, e.g. ``"Bearer ..."``; by default that of the environment
            variable ``PELLUCID_DICOMWEB_AUTHORIZATION``, if ``PELLUCID_DICOMWEB_HOST`` names the server. It is never logged nor kept.
        keep_phi: True puts the identifying DICOM elements into ``facts["phi"]``; otherwise none is kept.

    Raises:
        BadFile: missing, empty, truncated, corrupt or of an unknown kind; slices missing, doubled or sheared; several series; a server that
            refuses, fails or sends something else.
        Unsupported: a server, and no ``dicomweb-client`` installed.
    """
    if is_url(path):
        from pellucid.io.dicom.scan import Reading, read_series

        whole = "/series/" not in str(path)  # the word names a series of the study, else a stack of the series
        return read_series(fetched(path, series if whole else None, authorization), None if whole else series, Reading(keep_phi, resample))
    path = Path(path)
    if not path.exists():
        raise BadFile(f"read {path}", "no such file or folder", "Check the path.")
    if path.is_dir() or series is not None:
        from pellucid.io.dicom.scan import Reading, read_series  # the largest of the readers: imported when a scan needs it

        return read_series(path, series, Reading(keep_phi, resample))
    data, digest = load(path)
    kind = kind_of(data)
    if kind is None:
        raise BadFile(f"read {path}", f"{len(data)} bytes of no known image format", KNOWN)
    if kind == "DICOM":
        from pellucid.io.dicom.scan import Reading, read_file

        return read_file(data, digest, path, Reading(keep_phi, resample))
    return READERS[kind](data, digest, path)


def series(path: str | Path, *, authorization: str | None = None, keep_phi: bool = False) -> list[Series]:
    """The DICOM series in a folder, of one file or of a study on a DICOMweb server, in a fixed order.

    Number ``i`` is what ``read(..., series=str(i))`` takes. A server tells how many files a series has, not their size: rows and columns are 0.

    Raises:
        BadFile: no such path, or no DICOM image in it.
    """
    if is_url(path):
        return listed(path, authorization, keep_phi)
    path = Path(path)
    if not path.exists():
        raise BadFile(f"list the series in {path}", "no such file or folder", "Check the path.")
    return list_series(path, keep_phi)
