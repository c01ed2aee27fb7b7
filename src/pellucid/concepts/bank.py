"""Banks of concepts: named sets of images, with the patients they come from and, where wanted, the cells that count."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from pellucid.asking import Scan, as_image
from pellucid.concepts import drawn
from pellucid.concepts.drawn import FEWEST, RANDOM, Rows
from pellucid.errors import BadFile, BadImage, BadParameter
from pellucid.image import Image, digest
from pellucid.params import Count, Distance, Length, check
from pellucid.table import read_csv

SHOWN, LARGE = 4, 2**22  # images of a concept that are shown; samples of one, above which it is not kept with a result


@dataclass(frozen=True, eq=False)
class Examples:
    """Images that show one thing (or nothing in particular), one entry each.

    ``scans``: images, tensors (c, *space) or paths, read when they are needed; ``patients``: who each is of, or () if unknown; ``masks``: bool
    (*space) on the scan's own grid, where only these cells count, or None for all of them, or () if there are none.
    """

    name: str
    scans: tuple[Scan, ...]
    patients: tuple[Hashable, ...] = ()
    masks: tuple[Tensor | None, ...] = ()

    def __post_init__(self) -> None:
        for what, given in (("scans", self.scans), ("patients", self.patients), ("masks", self.masks)):
            object.__setattr__(self, what, tuple(given))
        for what, given in (("patient", self.patients), ("mask", self.masks)):
            if given and len(given) != len(self.scans):
                raise BadParameter(
                    f"a {what} for each image of {self.name!r} ({len(self.scans)})", f"{len(given)}", "Give as many, or none."
                )

    def __len__(self) -> int:
        return len(self.scans)

    @property
    def masked(self) -> bool:
        return any(m is not None for m in self.masks)

    @cached_property
    def facts(self) -> tuple[tuple[str, int, int], ...]:
        """Fingerprint (of image and mask), dimensions and channels of each; every file is read once for it."""
        found = []
        for i, scan in enumerate(self.scans):
            image, mask = as_image(scan), self.masks[i] if self.masks else None
            if mask is not None and tuple(mask.shape) != image.grid.shape:
                got = f"{tuple(mask.shape)} for {image.grid.shape}"
                raise BadImage(f"a mask on the grid of image {i} of {self.name!r}", got, "Resample it first: Image.on(grid, nearest=True).")
            if mask is not None and not bool(mask.any()):
                raise BadImage(f"a mask with something in it for image {i} of {self.name!r}", "an empty one", "Leave the image out.")
            mark = image.fingerprint if mask is None else digest(image.fingerprint, mask.bool())
            found.append((mark, image.grid.ndim, len(image.values)))
        return tuple(found)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        return tuple(f[0] for f in self.facts)

    @property
    def fingerprint(self) -> str:
        """sha256 of what the images hold: the name is no part of it."""
        return digest(*self.fingerprints)


@dataclass(frozen=True, eq=False)
class KeptBank:
    """What is saved of a bank with what was found by it: its fingerprint, how many images each set had, and the first images of each concept.

    No path and no patient, nothing of the random images; images of more than four million samples are left out.
    """

    fingerprint: str
    counts: Mapping[str, int]
    examples: Mapping[str, tuple[Image, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.examples)

    def shown(self, name: str, n: int = SHOWN) -> tuple[Image, ...]:
        """The first ``n`` images of a concept, as far as they were kept."""
        return self.examples[name][:n]

    def sizes(self) -> Mapping[str, int]:
        """How many images each set had."""
        return MappingProxyType(dict(self.counts))


@dataclass(frozen=True, eq=False)
class ConceptBank:
    """Concepts as named sets of images, and images of nothing in particular to hold them against.

    ``random`` are counterparts from the same source as the concepts (patches of the same photographs, scans of the same scanner): what
    they share is not the concept. They may be left out where concepts are only held against each other. Where patients are known, counterparts
    are drawn from the concept's own patients if each has enough; otherwise those patients' images are not drawn at all. ``shared``: a concept's
    images may be random ones for the others; its own are never drawn for it.

    Raises:
        BadImage: fewer than five images of a concept, no random images, images of 2 and 3 dimensions or of several numbers of channels in one
            bank, one image both in a concept and among the random ones, or a mask that is empty or on another grid.
        BadParameter: no concept, a name given twice or empty, patients for some sets alone.
    """

    concepts: tuple[Examples, ...]
    random: Examples = field(default_factory=lambda: Examples(RANDOM, ()))
    shared: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "concepts", tuple(self.concepts))
        names = [c.name for c in self.concepts]
        if not names:
            raise BadParameter("at least one concept", "none", "Give ConceptBank.of({'exudates': images}, random=others).")
        if len(set(names)) < len(names) or not all(names) or self.random.name in names:
            raise BadParameter("each concept has a name of its own, and none that of the random images", f"{names}", "Rename one.")
        few = next((c for c in self.concepts if len(c) < FEWEST), None)
        if few is not None:
            raise BadImage(f"at least {FEWEST} images of {few.name!r}", f"{len(few)}", "Add images, or leave the concept out.")
        if not len(self.random) and len(names) == 1:
            raise BadImage("images to hold the concept against", "none", "Give random= images of the same source that do not show it.")
        sets = [s for s in (*self.concepts, self.random) if len(s)]
        if len({bool(s.patients) for s in sets}) > 1:
            raise BadParameter("patients for all sets of a bank, or for none", "for some", "Give them for the others too.")
        self._check_images(sets)

    def _check_images(self, sets: Sequence[Examples]) -> None:
        kinds = {f[1:]: s.name for s in sets for f in s.facts}
        if len(kinds) > 1:
            told = "; ".join(f"{d}D with {c} channels in {name!r}" for (d, c), name in sorted(kinds.items()))
            raise BadImage("images of one kind in a bank", told, "Make a bank for each.")
        plain = set() if self.shared else set(self.random.fingerprints)
        for c in self.concepts:
            both = sum(f in plain for f in c.fingerprints)
            if both:
                raise BadImage(f"images of {c.name!r} that are not random ones too", f"{both} on both sides", "Take them out of one.")

    @classmethod
    def of(
        cls,
        concepts: Mapping[str, Sequence[Scan]],
        random: Sequence[Scan] = (),
        *,
        patients: Mapping[str, Sequence[Hashable]] | None = None,
        masks: Mapping[str, Sequence[Tensor | None]] | None = None,
    ) -> ConceptBank:
        """From images at hand; ``patients`` and ``masks`` by the concept's name, those of the random images under ``"random"``.

        >>> import torch
        >>> noise = torch.rand(12, 1, 8, 8)
        >>> bank = ConceptBank.of({"bright": list(noise[:6] + 1)}, random=list(noise[6:]))
        >>> bank.names, len(bank["bright"])
        (('bright',), 6)
        """
        who, cells = patients or {}, masks or {}
        unknown = [n for n in (*who, *cells) if n not in concepts and n != RANDOM]
        if unknown:
            raise BadParameter(
                "patients and masks under the concepts' names", repr(unknown[0]), "Use the names of the concepts, or 'random'."
            )
        made = [Examples(n, tuple(s), tuple(who.get(n, ())), tuple(cells.get(n, ()))) for n, s in concepts.items()]
        return cls(tuple(made), Examples(RANDOM, tuple(random), tuple(who.get(RANDOM, ())), tuple(cells.get(RANDOM, ()))))

    @classmethod
    def from_masks(
        cls,
        scans: Sequence[Scan],
        masks: Mapping[str, Sequence[Any]],
        *,
        size: Length | None = None,
        patients: Sequence[Hashable] | None = None,
        within: Sequence[Any] | None = None,
        randoms: int = 20,
        most: int = 4,
        seed: int = 0,
    ) -> ConceptBank:
        """From scans with lesions drawn on them, each with random counterparts from the same scan, away from all lesions.

        Args:
            scans: the scans.
            masks: for each concept a mask per scan: tensor (*space), Image, path, or None where the scan has none.
            size: the edge of patches around lesions (``"2mm"``); the network then sees patches. None: it sees whole scans, and a lesion is the
                mean activation of its cells; all lesions of a scan are one example.
            patients: of the scans; None: each scan a patient. Counterparts are matched by them.
            within: a mask per scan in which random places may lie (the retina, the body); None: all that is not the scan's background.
            randoms: random counterparts for each example; patches may overlap each other, and where there is no room there are fewer.
            most: patches of a scan for each concept, its largest lesions.
            seed: of the places.

        Raises:
            BadImage: too few scans with a lesion, a mask of another size, patches larger than the image, or no room for random ones.
            BadParameter: not a mask for each scan, mm where there is no spacing, or a concept called "random".

        **Misleads when**: concepts of one bank differ much in size and are not cut to one: their random masks are mixed. Make a bank for each.
        """
        for name, value in (("randoms", randoms), ("most", most)):
            check("from_masks", name, Count, value)
        edge = None if size is None else Distance.read(check("from_masks", "size", Length, size))
        drawn.named(masks)
        for name, given in masks.items():
            if len(given) != len(scans):
                raise BadParameter(f"a mask of {name!r} for each of {len(scans)} scans, or None", f"{len(given)}", "Give as many.")
        who = list(range(len(scans))) if patients is None else list(patients)
        if len(who) != len(scans) or (within is not None and len(within) != len(scans)):
            raise BadParameter(f"a patient, and a mask within=, for each of {len(scans)} scans", f"{len(who)}", "Give as many.")
        found = drawn.examples(scans, masks, who, within, edge, randoms, most, seed)
        return cls(*_sets(found))

    @classmethod
    def from_folders(cls, folder: str | Path, *, random: str = RANDOM, patient: Callable[[Path], Hashable] | None = None) -> ConceptBank:
        """One folder of images (or of DICOM series) per concept, and one of random counterparts.

        Args:
            folder: holds the folders; their names are the concepts'. Hidden files are left alone.
            random: the name of the folder with counterparts.
            patient: who an image is of, from its path: ``lambda p: p.name.split("_")[0]``.

        Raises:
            BadFile: no such folder, or one without folders of images.
        """
        home = Path(folder)
        if not home.is_dir():
            raise BadFile(f"a folder with a folder for each concept: {home}", "no folder", "Check the path.")
        found = {d.name: _files(d) for d in sorted(home.iterdir()) if d.is_dir() and not d.name.startswith(".")}
        if not {n for n in found if n != random}:
            raise BadFile(f"a folder for each concept in {home}", "none", "Make one per concept, and one called 'random'.")
        who = {n: [patient(p) for p in paths] for n, paths in found.items()} if patient is not None else {}
        sets = {n: Examples(n, tuple(paths), tuple(who.get(n, ()))) for n, paths in found.items()}
        return cls(tuple(s for n, s in sets.items() if n != random), sets.get(random, Examples(random, ())))

    @classmethod
    def from_table(
        cls,
        path: str | Path,
        *,
        image: str = "image",
        concept: str = "concept",
        patient: str | None = "patient",
        mask: str | None = "mask",
        random: str = RANDOM,
    ) -> ConceptBank:
        """From a CSV file with a row per image: its path (from the table's folder on), its concept, and, if there, its patient and mask.

        Args:
            path: the table, UTF-8, with a head line.
            image, concept, patient, mask: names of the columns; those of patient and mask may be missing from the table.
            random: what stands in the concept's column of counterparts.

        Raises:
            BadFile: no table, a column or file that is missing, or an empty cell.
        """
        table = Path(path)
        read = read_csv(table, "a table of concepts", image, concept, fix="Name the column in the call.")
        known = {k: n for k, n in (("patient", patient), ("mask", mask)) if n is not None and n in read.columns}
        found: dict[str, list[tuple[Path, str, Tensor | None]]] = {}
        for n, row in zip(read.lines, read.rows, strict=True):
            gap = next((c for c in (image, concept, *filter(None, [known.get("patient")])) if not row[c]), None)
            if gap is not None:
                raise BadFile(f"a value of {gap!r} in line {n} of {table.name}", "an empty cell", "Fill it, or leave the line out.")
            at = _there(table, row[image], n)
            cut = row[known["mask"]] if "mask" in known else ""
            cells = as_image(_there(table, cut, n)).values.sum(0) > 0 if cut else None
            found.setdefault(row[concept], []).append((at, row[known["patient"]] if "patient" in known else "", cells))
        return cls._of_rows(found, "patient" in known, random)

    @classmethod
    def _of_rows(cls, found: Mapping[str, Sequence[tuple[Path, str, Tensor | None]]], patients: bool, random: str) -> ConceptBank:
        def one(name: str) -> Examples:
            rows = found.get(name, ())
            cells = tuple(r[2] for r in rows)
            who = tuple(r[1] for r in rows) if patients else ()
            return Examples(name, tuple(r[0] for r in rows), who, cells if any(c is not None for c in cells) else ())

        return cls(tuple(one(n) for n in found if n != random), one(random))

    def __getitem__(self, name: str) -> Examples:
        for c in (*self.concepts, self.random):
            if c.name == name:
                return c
        raise KeyError(f"no concept {name!r}; there are {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.concepts)

    @property
    def fingerprint(self) -> str:
        """sha256 of all images by concept."""
        return digest(*(f"{c.name}\n{c.fingerprint}" for c in (*self.concepts, self.random) if len(c)))

    @property
    def masked(self) -> bool:
        return any(s.masked for s in (*self.concepts, self.random))

    def shown(self, name: str, n: int = SHOWN) -> tuple[Image, ...]:
        """The first ``n`` images of a concept, read."""
        return tuple(as_image(s) for s in self[name].scans[:n])

    def sizes(self) -> Mapping[str, int]:
        """How many images each set has."""
        return MappingProxyType({s.name: len(s) for s in (*self.concepts, self.random)})

    def as_kept(self) -> KeptBank:
        """What of it is saved with a result."""
        shown = {n: tuple(i for i in self.shown(n) if i.values.numel() <= LARGE) for n in self.names}
        return KeptBank(self.fingerprint, dict(self.sizes()), shown)


def _sets(found: Mapping[str, Rows]) -> tuple[tuple[Examples, ...], Examples]:
    made = []
    for name, rows in found.items():
        cells = tuple(r[2] for r in rows)
        made.append(
            Examples(name, tuple(r[0] for r in rows), tuple(r[1] for r in rows), cells if any(c is not None for c in cells) else ())
        )
    return tuple(e for e in made if e.name != RANDOM), next(e for e in made if e.name == RANDOM)


def _files(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    if not found:
        raise BadFile(f"images in {folder}", "an empty folder", "Fill it or remove it.")
    return found


def _there(table: Path, text: str, line: int) -> Path:
    path = table.parent / text.strip()
    if not path.exists():
        raise BadFile(
            f"the file named in line {line} of {table.name}", f"no file {text.strip()!r}", "Paths are read from the table's folder on."
        )
    return path
