"""What every DICOM object made from a map shares: who made it of what, the same words, UIDs from content, no clock."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pellucid.io.archive import jsonable
from pellucid.io.caption import target_of, verdict_of
from pellucid.io.dicom.origin import Origin, uid

WARNING = "AI EXPLANATION - NOT FOR DIAGNOSIS"
SCHEME = "99PELLUCID"
MAKER = "Pellucid"
IMPLEMENTATION = uid("pellucid", "implementation")
NO_DAY = "19000101"  # where the standard wants a date and none may be told
# of SNOMED CT, by BodyPartExamined (DICOM PS3.16, annex L)
ANATOMY = {
    "ABDOMEN": ("818981001", "Abdomen"), "BRAIN": ("12738006", "Brain"), "BREAST": ("76752008", "Breast"), "CHEST": ("816094009", "Chest"),
    "EYE": ("81745001", "Eye"), "HEAD": ("69536005", "Head"), "HEART": ("80891009", "Heart"), "HIP": ("29836001", "Hip region"),
    "KIDNEY": ("64033007", "Kidney"), "KNEE": ("72696002", "Knee region"), "LIVER": ("10200004", "Liver"), "LUNG": ("39607008", "Lung"),
    "NECK": ("45048000", "Neck"), "PELVIS": ("816092008", "Pelvis"), "PROSTATE": ("41216001", "Prostate"),
    "SHOULDER": ("16982005", "Shoulder region"), "SPINE": ("421060004", "Vertebral column"), "WHOLEBODY": ("38266002", "Entire body"),
}  # fmt: skip
SOMEWHERE = ("123037004", "Body structure")
# parts of which there is one: only of others a side is told (dicom3tools knows these)
UNPAIRED = tuple(
    """ABDOMEN ABDOMENPELVIS AORTA BLADDER BRAIN CHEST CHESTABDOMEN CHESTABDPELVIS COCCYX COLON CSPINE ESOPHAGUS HEAD HEADNECK HEADNECKCHEST HEART
    JAW LARYNX LIVER LSPINE MEDIASTINUM NECK NECKCHEST NOSE PANCREAS PELVIS PENIS PHARYNX PROSTATE RECTUM SKULL SPINE SPLEEN SSPINE STERNUM
    STOMACH THYROID TLSPINE TONGUE TSPINE UTERUS WHOLEBODY""".split()
)


@dataclass(frozen=True, eq=False)
class Derived:
    """A map on its source's grid, summed over channels: ``values`` (slices, rows, columns), ascending along the normal.

    ``facts`` are those of the Map; ``threshold`` is the share of the largest |value| from which a sample belongs to a region.
    """

    origin: Origin
    values: np.ndarray
    facts: Mapping[str, Any]
    threshold: float

    @property
    def said(self) -> Mapping[str, Any]:
        """The provenance."""
        found: Mapping[str, Any] = self.facts["provenance"]
        return found

    @property
    def method(self) -> str:
        return str(self.said["method"])

    @property
    def name(self) -> str:
        """The method's name, without its parameters."""
        return self.method.split("(")[0]

    @property
    def target(self) -> str:
        """What was explained: a class's name where it is one class."""
        return target_of(self.said)[0]

    @property
    def verdict(self) -> str:
        """What the checks said; it stands in the public words of every object, since viewers show no private ones."""
        return verdict_of(self.facts)

    @property
    def meant(self) -> str:
        """What the values are, as the method declares it."""
        return str(self.said.get("values") or "not declared")

    @property
    def signs(self) -> tuple[str, str]:
        """What lies above and below zero is called: for and against only where the method says that below zero counts against it."""
        return ("for", "against") if "; below zero" in self.meant else ("above zero", "below zero")

    @property
    def version(self) -> str:
        return str(self.said["versions"].get("pellucid", "source"))

    @property
    def top(self) -> float:
        """The largest |value|."""
        return float(np.abs(self.values).max())

    @cached_property
    def regions(self) -> dict[str, np.ndarray]:
        """Samples of at least ``threshold`` times the largest |value|, by sign; a sign that does not occur is left out."""
        level = self.threshold * self.top
        found = dict(zip(self.signs, (self.values >= level, self.values <= -level), strict=True))
        return {sign: mask for sign, mask in found.items() if self.top > 0 and mask.any()}

    @cached_property
    def seed(self) -> str:
        """Hash of all that an object may hold: equal explanations get equal UIDs, others never do."""
        told = [self.threshold, self.origin.named, self.day, self.told]
        files = [str(h.SOPInstanceUID) for h in self.origin.headers]
        words = json.dumps(jsonable([told, files], strict=True), sort_keys=True)
        return hashlib.sha256(words.encode() + np.ascontiguousarray(self.values).tobytes()).hexdigest()

    def uid(self, *parts: str) -> str:
        """The UID of a part of this export."""
        return uid(self.seed, *parts)

    @property
    def day(self) -> tuple[str, str] | None:
        """Date and time of the explanation, where it may be told: it is next to the patient's visit."""
        digits = re.sub(r"\D", "", str(self.said.get("time", "")))
        return (digits[:8], digits[8:14]) if self.origin.named and len(digits) >= 14 else None

    @cached_property
    def told(self) -> dict[str, Any]:
        """Provenance and verdict for a private element, without what the clock said."""
        kept = {k: v for k, v in self.said.items() if k not in ("time", "seconds")}
        evidence = {k: v for k, v in self.facts["evidence"].items() if k != "measurements"}
        numbers = [{k: v for k, v in m.items() if k != "detail"} for m in self.facts["evidence"]["measurements"]]
        return {"provenance": kept, "evidence": evidence | {"measurements": numbers}, "score": self.facts["score"]}

    def equipment(self) -> dict[str, Any]:
        """Keyword arguments of every highdicom constructor: what made the object."""
        weights = str(self.said.get("weights", ""))
        return {
            "manufacturer": MAKER,
            "manufacturer_model_name": fit(self.name),
            "software_versions": fit(f"pellucid {self.version}"),
            "device_serial_number": weights[:16] if re.fullmatch(r"[0-9a-f]{64}", weights) else "unknown",
        }

    def series(self, kind: str, number: int) -> dict[str, Any]:
        """Keyword arguments of a series of its own."""
        return {
            "series_instance_uid": self.uid(kind, "series"),
            "series_number": number,
            "sop_instance_uid": self.uid(kind, "1"),
            "instance_number": 1,
            "series_description": self.description,
            "specific_character_set": "ISO_IR 192",
        }

    @property
    def description(self) -> str:
        return fit(f"{WARNING} ({self.verdict}): {self.name} of {self.target}")

    def scheme(self) -> list[Any]:
        """The private coding scheme, named for who does not know it."""
        from highdicom.coding_schemes import CodingSchemeIdentificationItem

        return [CodingSchemeIdentificationItem(SCHEME, name="Pellucid: methods and measurements", responsible_organization=MAKER)]

    def region(self, sign: str) -> Any:
        """A region of that sign, as a code."""
        if sign in ("for", "against"):
            return concept(f"EVIDENCE_{sign}".upper(), f"Relevance {sign} the explained class")
        return concept(sign.replace(" ", "_").upper(), f"Values far {sign}, neither for nor against")

    def anatomy(self) -> Any:
        """What part of the body was scanned, as a code."""
        from highdicom.sr import CodedConcept

        value, meaning = ANATOMY.get(str(self.origin.headers[0].get("BodyPartExamined", "")), SOMEWHERE)
        return CodedConcept(value, "SCT", meaning)

    def finish(self, ds: Any) -> Any:
        """Words and times that are the same for every object, and the UIDs that a constructor drew by chance."""
        first = self.origin.headers[0]
        ds.file_meta.ImplementationClassUID, ds.file_meta.ImplementationVersionName = IMPLEMENTATION, fit(f"PELLUCID {self.version}", 16)
        date, time = self.day or (NO_DAY, "000000")
        for keyword in ("InstanceCreationDate", "ContentDate", "SeriesDate"):
            if keyword in ds or keyword == "SeriesDate":
                setattr(ds, keyword, date)
        for keyword in ("InstanceCreationTime", "ContentTime", "SeriesTime"):
            if keyword in ds or keyword == "SeriesTime":
                setattr(ds, keyword, time)
        ds.pop("ContributingEquipmentSequence", None)  # it holds the clock, and what scanned the patient
        if str(ds.Modality) != "SR":
            ds.BodyPartExamined = str(first.get("BodyPartExamined", ""))  # else dciodvfy wants Laterality
        if "FrameOfReferenceUID" not in first and str(ds.Modality) != "SR" and "PatientOrientation" not in ds:
            ds.PatientOrientation = list(first.get("PatientOrientation", [])) or ""
        if "DimensionOrganizationSequence" in ds:
            new = self.uid(str(ds.SOPInstanceUID), "dimensions")
            for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
                item.DimensionOrganizationUID = new
        block = ds.private_block(0x0099, "PELLUCID 1", create=True)
        block.add_new(0x01, "UT", json.dumps(jsonable(self.told, strict=True), sort_keys=True))
        return ds


def fit(text: str, length: int = 64) -> str:
    """Text that fits a short element: control characters and backslashes (which would split it) out, cut at ``length`` bytes.

    The standard counts characters, some readers bytes.
    """
    clean = "".join(c if c.isprintable() and c != "\\" else " " for c in text).strip()
    if len(clean.encode()) <= length:
        return clean
    return clean.encode()[: length - 1].decode(errors="ignore").rstrip() + "~"


def concept(value: str, meaning: str) -> Any:
    """A code of our own scheme; a code value has 16 characters at most, so a long one ends in its hash."""
    from highdicom.sr import CodedConcept

    short = value if len(value) <= 16 else f"{value[:11]}_{hashlib.sha256(value.encode()).hexdigest()[:4]}"
    return CodedConcept(fit(short, 16), SCHEME, fit(meaning))
