"""Filters: the weights of a convolution as pictures, and which of them are dead or twice there."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.activations import look
from pellucid.asking import Scan, as_image
from pellucid.errors import BadParameter, BadSite
from pellucid.explanation import Provenance
from pellucid.findings import Finding, signed
from pellucid.image import Image, digest
from pellucid.model import Model, as_model
from pellucid.params import Fraction, check
from pellucid.probe.sites import calls
from pellucid.prototypes.asked import unrowed
from pellucid.prototypes.figure import Panel, draw
from pellucid.run import Run
from pellucid.table import Table

Scale = Literal["shared", "own"]
GATES = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Hardswish)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
WEAK = 0.01  # of the median norm: a filter that is shorter does nothing
LIMIT = (
    "A filter's weights are what it multiplies its input with, no picture of what it finds; beyond the first layer that input is itself made. A filter "
    "that is silent over these images may speak over others."
)


@dataclass(frozen=True)
class Twins:
    """Two filters that are nearly the same up to length, or up to sign (``cosine`` below 0)."""

    first: int
    second: int
    cosine: float


@dataclass(frozen=True, eq=False)
class Filters(Finding):
    """All filters of a convolution.

    ``weights`` (n, c, *kernel); ``norms`` (n,); ``loudest`` (n,): the highest value over all images where each is read (nan: no images), at ``read_at``;
    ``weak``: filters of hardly any length; ``silent``: those that never speak over the images; ``twins``: pairs alike.
    """

    kind = "filters"
    site: str
    weights: NDArray[np.float32]
    norms: NDArray[np.float64]
    loudest: NDArray[np.float64]
    active: NDArray[np.float64]
    weak: tuple[int, ...]
    silent: tuple[int, ...]
    twins: tuple[Twins, ...]
    alike: float
    images: int
    read_at: str
    color: bool
    provenance: Provenance = field(repr=False)
    network: str = ""

    def table(self) -> Table:
        """A row for each filter: its length, its loudest answer, in which share of images it speaks, what is wrong with it."""
        partner = {t.second: t for t in reversed(self.twins)} | {t.first: t for t in reversed(self.twins)}
        rows = []
        for k, norm in enumerate(self.norms):
            twin = partner.get(k)
            said = [w for w, found in (("weak", k in self.weak), ("silent", k in self.silent)) if found]
            other = "" if twin is None else str(twin.second if twin.first == k else twin.first)
            rows.append(
                (
                    k,
                    float(norm),
                    float(self.loudest[k]),
                    float(self.active[k]),
                    ", ".join(said),
                    other,
                    math.nan if twin is None else twin.cosine,
                )
            )
        return Table(("filter", "norm", "loudest", "speaks in", "remark", "like", "cosine"), tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """What was found, for people; the last says what it does not show."""
        n = len(self.norms)
        told = [
            f"The convolution {self.site!r} has {n} filters of {' x '.join(map(str, self.weights.shape[2:]))} samples over {self.weights.shape[1]} channels."
        ]
        told.append(
            f"Hardly any length: {_listed(self.weak)}." if self.weak else f"None is shorter than {100 * WEAK:.0f} % of the median length."
        )
        if self.images:
            over = f"over {self.images} images (read at {self.read_at!r})"
            told.append(f"Never active {over}: {_listed(self.silent)}." if self.silent else f"Each of them is active {over}.")
        if self.twins:
            shown = ", ".join(f"{t.first} and {t.second} ({t.cosine:+.2f})" for t in self.twins[:8])
            told.append(f"Alike up to length and sign, |cosine| from {self.alike:g}: {shown}{' ...' if len(self.twins) > 8 else ''}.")
        else:
            told.append(f"No two are alike (|cosine| from {self.alike:g}).")
        return (*told, LIMIT)

    def panels(self, scale: Scale = "shared", most: int = 32) -> tuple[Panel, ...]:
        """Filters as pictures, gray 0.5 is weight 0: one over three colors as a color, any other channel by channel.

        Args:
            scale: ``shared``: one for all filters, so that weak ones look weak; ``own``: each up to its largest weight.
            most: pictures, at most.
        """
        if scale not in get_args(Scale):
            raise BadParameter("scale is 'shared' or 'own'", repr(scale), "Choose one of them.")
        shared = float(np.abs(self.weights).max()) or 1.0
        found: list[Panel] = []
        for k, kernel in enumerate(self.weights):
            top = shared if scale == "shared" else float(np.abs(kernel).max()) or 1.0
            mark = " weak" if k in self.weak else " silent" if k in self.silent else ""
            parts = [(f"filter {k}{mark}", kernel)] if self.color else [
                (f"filter {k}{mark}" + (f", channel {c}" if len(kernel) > 1 else ""), kernel[c : c + 1]) for c in range(len(kernel))
            ]  # fmt: skip
            for name, part in parts:
                if len(found) == most:
                    return tuple(found)
                found.append(Panel(_image(part, self.color), name, (f"length {self.norms[k]:.2g}",), -top, top))
        return tuple(found)

    def figure(self, path: str | Path | None = None, *, scale: Scale = "shared", most: int = 32, title: str = "") -> Any:
        """The filters side by side, volumes as three planes through their middle; see ``panels`` and ``draw``."""
        shown = self.panels(scale, most)
        told = "one scale for all" if scale == "shared" else "each on a scale of its own"
        return draw(
            shown,
            path,
            title=title or f"Filters of {self.site!r}, {told}",
            caption="Gray: a weight of 0. " + " ".join(self.sentences()[1:-1]),
            columns=8,
        )


def _listed(several: Sequence[int]) -> str:
    return ", ".join(map(str, several[:12])) + (f" and {len(several) - 12} more" if len(several) > 12 else "")


def _image(kernel: NDArray[np.float32], color: bool) -> Image:
    """A kernel (c, *kernel) as an image; a line as one row."""
    values = torch.from_numpy(np.array(kernel))
    return Image(values[:, None] if values.ndim == 2 else values, channels=("red", "green", "blue") if color else ())


def filters(
    model: Any, site: str, scans: Sequence[Scan] = (), *, alike: float = 0.98, read_at: str | None = None, run: Run | None = None
) -> Filters:  # fmt: skip
    """The filters of a convolution, with those that are dead or twice there.

    Args:
        model: the network, described or bare.
        site: the name of a convolution, plain or transposed, in 1, 2 or 3 dimensions.
        scans: images over which it is seen who never speaks; none: only weights are looked at.
        alike: |cosine| from which two filters count as one up to length and sign.
        read_at: where to look whether a filter speaks (its channel there is above 0 anywhere, and not one value everywhere); None: the next activation
            function with as many channels, or the convolution itself.
        run: chunk, memory, progress, cancel.

    Raises:
        BadSite: no convolution of that name.

    **Misleads when**: filters before a normalization differ in length only by what it undoes; ``norm`` then says little.

    **Source**: first-layer views after Krizhevsky et al. 2012; Zeiler, Fergus 2014.
    """
    check("filters", "alike", Fraction, alike)
    began, run, whole = time.perf_counter(), run or Run(), as_model(model)
    net = unrowed(whole)
    module = dict(net.module.named_modules()).get(site)
    if not isinstance(module, CONVOLUTIONS):
        have = [n for n, m in net.module.named_modules() if isinstance(m, CONVOLUTIONS)]
        got = "nothing of that name" if module is None else type(module).__name__
        raise BadSite(f"a convolution at {site!r}", got, f"There are {', '.join(map(repr, have[:6])) or 'none'}.")
    weights = _weights(module)
    flat = weights.double().flatten(1)
    norms = flat.norm(dim=1)
    several = list(scans)
    notes: list[str] = []
    loudest = active = torch.full((len(weights),), math.nan, dtype=torch.float64)
    silent: list[int] = []
    at = read_at or site
    if several:
        at = read_at or _gate(net, site, several[0], len(weights))
        loudest, active, silent = _spoken(net, several, at, len(weights), run, notes)
    weak = [k for k, n in enumerate(norms.tolist()) if n <= WEAK * float(norms.median())]
    marks = [as_image(s).fingerprint for s in several]
    called = f"filters(site={site!r}, alike={alike:g}, read_at={at!r}, images={len(several)})"
    provenance = signed(
        whole, run, called, image=digest(*marks) if marks else "", seconds=time.perf_counter() - began, site=site, notes=notes
    )
    first = next((n for n, m in net.module.named_modules() if isinstance(m, CONVOLUTIONS)), "") == site
    color = (
        first and weights.shape[1] == 3 and weights.ndim == 4 and (not several or as_image(several[0]).channels == ("red", "green", "blue"))
    )
    return Filters(
        site, weights.numpy(), norms.numpy(), loudest.numpy(), active.numpy(), tuple(weak), tuple(silent), _twins(flat, norms, alike, set(weak)), alike,
        len(several), at, color, provenance, whole.identity,
    )  # fmt: skip


def _weights(module: Any) -> Tensor:
    """Weights (n, c, *kernel), a filter for each channel that comes out; a transposed one's kernel as it is laid down."""
    weights: Tensor = module.weight.detach().float().cpu()
    if not module.transposed:
        return weights.clone()
    per = weights.unflatten(0, (module.groups, -1)).transpose(1, 2)  # (groups, out, in, *kernel)
    return per.flatten(0, 1).clone()


def _gate(net: Model, site: str, scan: Scan, channels: int) -> str:
    """The next activation function after a convolution, before any other convolution."""
    seen, _ = calls(net, net.ready(as_image(scan))[1])
    modules = dict(net.module.named_modules())
    after = False
    for call in seen:
        module = modules.get(call.name)
        if after and isinstance(module, CONVOLUTIONS):
            break
        if after and isinstance(module, GATES) and call.layout.channel is not None and call.shape[call.layout.channel] == channels:
            once = sum(c.name == call.name for c in seen) == 1
            return call.name if once else f"{call.name}#{call.index}"
        after = after or call.name == site
    return site


def _spoken(net: Model, scans: Sequence[Scan], at: str, n: int, run: Run, notes: list[str]) -> tuple[Tensor, Tensor, list[int]]:
    """The highest value of each channel over all images, the share of images in which it speaks, and those that never do."""
    high = torch.full((n,), -math.inf, dtype=torch.float64)
    low, speaks = -high, torch.zeros(n, dtype=torch.float64)
    for seen in look(net, scans, at, run=run, notes=notes):
        z = seen.activation.double().flatten(1) if seen.activation.ndim > 1 else seen.activation.double()[:, None]
        if len(z) != n:
            raise BadSite(f"{n} channels at {at!r}, one for each filter", f"{len(z)}", "Name another read_at=.")
        high, low = torch.maximum(high, z.amax(1)), torch.minimum(low, z.amin(1))
        speaks += z.amax(1) > 0
    dead = (high <= 0) | (high == low)
    return high, speaks / len(scans), [int(k) for k in dead.nonzero()[:, 0]]


def _twins(flat: Tensor, norms: Tensor, alike: float, weak: set[int]) -> tuple[Twins, ...]:
    """Pairs of filters with |cosine| from ``alike``, the most alike first, row by row."""
    unit = flat / norms.clamp_min(1e-30)[:, None]
    found = []
    for i in range(len(unit)):
        cosines = unit[i + 1 :] @ unit[i]
        for j in (cosines.abs() >= alike).nonzero()[:, 0].tolist():
            if not {i, i + 1 + j} & weak:
                found.append(Twins(i, i + 1 + j, float(cosines[j])))
    return tuple(sorted(found, key=lambda t: -abs(t.cosine)))
