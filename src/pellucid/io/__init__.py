"""Scans in, maps out: DICOM, NIfTI, rasters and the archive. Third-party readers are imported when a file needs them."""

from typing import TYPE_CHECKING

from pellucid.late import late

WITHIN = {  # names that are found in their file when first named
    "animation": ("Told",),
    "archive": ("read_archive",),
    "audit": ("append_record", "check_audit"),
    "caption": ("ALARMING", "WARNING", "Caption", "target_of"),
    "dicom.derived": ("Derived",),
    "dicom.drawn": ("write_drawn",),
    "dicom.filing": ("Filed", "file_dicom"),
    "dicom.origin": ("Origin", "find_origin"),
    "dicom.sending": ("send",),
    "dicom.series": ("Series",),
    "picture": ("overlay",),
    "reading": ("read", "series"),
    "sheet": ("Tile", "full_color"),
    "writing": ("write", "write_archive", "write_film", "write_sheet"),
}
if TYPE_CHECKING:
    from pellucid.io.animation import Told as Told
    from pellucid.io.archive import read_archive as read_archive
    from pellucid.io.audit import append_record as append_record
    from pellucid.io.audit import check_audit as check_audit
    from pellucid.io.caption import ALARMING as ALARMING
    from pellucid.io.caption import WARNING as WARNING
    from pellucid.io.caption import Caption as Caption
    from pellucid.io.caption import target_of as target_of
    from pellucid.io.dicom.derived import Derived as Derived
    from pellucid.io.dicom.drawn import write_drawn as write_drawn
    from pellucid.io.dicom.filing import Filed as Filed
    from pellucid.io.dicom.filing import file_dicom as file_dicom
    from pellucid.io.dicom.origin import Origin as Origin
    from pellucid.io.dicom.origin import find_origin as find_origin
    from pellucid.io.dicom.sending import send as send
    from pellucid.io.dicom.series import Series as Series
    from pellucid.io.picture import overlay as overlay
    from pellucid.io.reading import read as read
    from pellucid.io.reading import series as series
    from pellucid.io.sheet import Tile as Tile
    from pellucid.io.sheet import full_color as full_color
    from pellucid.io.writing import write as write
    from pellucid.io.writing import write_archive as write_archive
    from pellucid.io.writing import write_film as write_film
    from pellucid.io.writing import write_sheet as write_sheet
else:
    __getattr__, __dir__ = late(__name__, WITHIN)
