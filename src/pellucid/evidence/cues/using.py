"""Does the network use shape, texture or color? Its AUC on pictures that have lost a cue, or have one alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from pellucid.asking import Scan
from pellucid.errors import BadParameter
from pellucid.evidence.cues import pictures
from pellucid.evidence.cues.asked import Asked, auc_lost, read_labels, read_patients
from pellucid.evidence.cues.pictures import Picture
from pellucid.image import Image
from pellucid.intervals import Interval, auc, average
from pellucid.model import as_model
from pellucid.probe.ledger import untouched
from pellucid.run import Run
from pellucid.table import Table

CLEAN = "as they are"
VERSIONS: dict[str, tuple[Picture, str, str]] = {  # how it is made, what it keeps, what it takes away
    "grayscale": (pictures.grayscale, "shape, texture and brightness", "color"),
    "recolored": (pictures.recolored, "shape, texture and brightness", "the usual colors"),
    "channels_permuted": (pictures.channels_permuted, "shape and texture", "the usual colors"),
    "gamma": (pictures.gamma, "shape, and the order of grays", "the usual grays"),
    "silhouette": (pictures.silhouette, "the outline", "all that lies inside it"),
    "edges": (pictures.edges, "contours", "color, brightness and shading"),
    "texture": (pictures.texture, "texture and color in patches", "shape beyond a patch, and place"),
    "blurred": (pictures.blurred, "coarse form and color", "fine detail"),
    "high_pass": (pictures.high_pass, "fine detail", "coarse form, color and brightness"),
}
IN_COLOR = ("grayscale", "recolored", "channels_permuted")


@dataclass(frozen=True)
class Cue:
    """What one version of the pictures did: AUC, how much of the original's is lost (paired), mean scores of images with and without the finding."""

    name: str
    keeps: str
    takes: str
    auc: Interval
    lost: Interval
    positive: Interval
    negative: Interval

    @property
    def enough(self) -> bool:
        """Whether the network still tells the finding better than chance from what this version keeps."""
        return self.auc.low > 0.5

    @property
    def missed(self) -> bool:
        """Whether the network is worse without what this version takes away."""
        return self.lost.low > 0

    @property
    def text(self) -> str:
        """The finding in plain words."""
        if self.name == CLEAN:
            return f"On the pictures as they are the AUC is {self.auc}."
        still = "still tells the finding" if self.enough else "does not tell the finding better than chance"
        lost = f"and loses {self.lost.value:.2f} by it" if self.missed else "and no loss is shown"
        return f"From {self.keeps}, without {self.takes}, the network {still} (AUC {self.auc}), {lost}."


@dataclass(frozen=True, eq=False)
class Cues:
    """Scores and AUC on each version of the pictures; ``scores`` by version in the order of the images; ``left_out`` says which did not apply."""

    rows: tuple[Cue, ...]
    scores: Mapping[str, tuple[float, ...]]
    labels: tuple[int, ...]
    target: str
    left_out: tuple[str, ...]
    forward: int

    def __getitem__(self, name: str) -> Cue:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no version {name!r}; there are {', '.join(self.scores)}")

    @property
    def text(self) -> str:
        """What the network can go by and what it misses, in two sentences."""
        enough = [f"{r.keeps} ({r.name})" for r in self.rows[1:] if r.enough]
        missed = [f"{r.takes} ({r.name})" for r in self.rows[1:] if r.missed]
        first = f"It still tells the finding from {'; '.join(enough)}." if enough else "No version alone lets it tell the finding."
        return f"{first} It is worse without {'; '.join(missed)}." if missed else f"{first} It misses nothing that was taken away."

    def table(self) -> Table:
        """A row for each version."""
        columns = (
            "pictures",
            "keep",
            "without",
            "AUC",
            "low",
            "high",
            "lost",
            "lost low",
            "lost high",
            "score with",
            "score without",
            "finding",
        )
        rows = [
            (r.name, r.keeps, r.takes, r.auc.value, r.auc.low, r.auc.high, r.lost.value, r.lost.low, r.lost.high,
             r.positive.value, r.negative.value, r.text)
            for r in self.rows
        ]  # fmt: skip
        return Table(columns, tuple(rows))


def cues(
    net: Any,
    images: Sequence[Scan],
    labels: Sequence[int],
    *,
    target: Any,
    versions: Sequence[str] | Mapping[str, Picture] | None = None,
    masks: Sequence[Tensor] | None = None,
    patients: Sequence[Hashable] | None = None,
    run: Run | None = None,
) -> Cues:
    """Whether the network goes by shape, texture or color: its scores and AUC on pictures that keep one cue or lose one.

    AUC over all pairs of images with and without the finding; intervals from 1000 draws of patients; ``lost`` is AUC(as they are) - AUC(version)
    on the same draws. Versions are made of the prepared image (c, *space), in its own values.

    Args:
        net: the Model or network.
        images, labels: test images, and 1 where the finding is, 0 elsewhere.
        target: the score that is followed: a class, or a Target such as ``probability("DME")``; the same for all images.
        versions: names (see ``VERSIONS``), or functions Image -> Image by name; None: all that apply.
        masks: for silhouettes and texture, the object in each prepared image, (*space); None: ``foreground`` finds the patient.
        patients: whose image it is; images of one patient are drawn together.
        run: seed, chunk, memory, cancel.

    **Misleads when**: a version is unlike anything the network has seen: that it *still* answers shows that the cue is enough; that it
        fails may be due to strange pictures and not to the missing cue. Small findings survive in patches: texture then holds their shape.
    **Source**: Geirhos et al. 2019 (ICLR), grayscale, silhouette, edge and texture pictures; patches instead of their style transfer, which
        needs pictures and a network of its own.

    Raises:
        BadParameter: labels, masks or patients that do not fit; an unknown version.

    >>> import pellucid as pl
    >>> eyes = list(pl.phantoms.cases("fundus_dme", 8, size=64))
    >>> net = pl.load_model("phantom:fundus_dme")
    >>> found = cues(net, [e.image for e in eyes], [e.labels["dme"] for e in eyes], target="DME", versions=["grayscale"])
    >>> [row.name for row in found.rows]
    ['as they are', 'grayscale']
    """
    y, who = read_labels(labels, len(images)), read_patients(patients, len(images))
    if masks is not None and len(masks) != len(images):
        raise BadParameter("a mask for each image", f"{len(masks)} for {len(images)}", "Give as many.")
    with untouched(as_model(net).module):
        asked = Asked(net, target, run, images[0])
        made, left_out = _chosen(versions, asked.ready(images[0])[0])
        scores: dict[str, list[float]] = {n: [] for n in (CLEAN, *made)}
        for k, scan in enumerate(images):
            image = asked.ready(scan)[0]
            mask = None if masks is None else masks[k]
            shown = (image.values if n == CLEAN else _shown(n, made[n], image, mask, asked.run.seed) for n in scores)
            for name, s in zip(scores, asked.scores(image, shown), strict=True):
                scores[name].append(s)
    rows = tuple(_row(n, scores[CLEAN], s, y, who) for n, s in scores.items())
    return Cues(rows, {n: tuple(s) for n, s in scores.items()}, y, repr(asked.target), left_out, asked.forward)


def _chosen(versions: Sequence[str] | Mapping[str, Picture] | None, image: Image) -> tuple[dict[str, Picture], tuple[str, ...]]:
    if isinstance(versions, Mapping):
        return dict(versions), ()
    unknown = set(versions or ()) - set(VERSIONS)
    if unknown:
        raise BadParameter(f"versions among {', '.join(VERSIONS)}", ", ".join(sorted(unknown)), "Or give functions by name.")
    wanted = list(VERSIONS if versions is None else versions)
    out = () if pictures.colored(image) else tuple(n for n in wanted if n in IN_COLOR)
    return {n: VERSIONS[n][0] for n in wanted if n not in out}, out


def _shown(name: str, make: Picture, image: Image, mask: Tensor | None, seed: int) -> Tensor:
    if make is pictures.silhouette:
        make = partial(pictures.silhouette, mask=mask)
    elif make is pictures.texture:
        make = partial(pictures.texture, mask=mask, seed=seed)
    made = make(image)
    if made.values.shape != image.values.shape:
        raise BadParameter(f"a version of shape {tuple(image.values.shape)}", f"{tuple(made.values.shape)} of {name!r}", "Keep the shape.")
    return made.values


def _row(name: str, clean: list[float], scores: list[float], y: tuple[int, ...], who: tuple[Hashable, ...]) -> Cue:
    _, keeps, takes = VERSIONS.get(name, (None, "all" if name == CLEAN else name, "nothing" if name == CLEAN else f"what {name} takes"))
    side = {v: [k for k, label in enumerate(y) if label == v] for v in (1, 0)}
    each = [average([scores[k] for k in side[v]], [who[k] for k in side[v]]) for v in (1, 0)]
    return Cue(name, keeps, takes, auc(scores, y, who), auc_lost(clean, scores, y, who), *each)
