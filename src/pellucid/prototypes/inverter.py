"""An inverter: an up-convolutional network, trained on the user's images, that draws the mean image behind a code at a site."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.activations import gather, look
from pellucid.asking import Scan, as_image
from pellucid.errors import BadImage, Cancelled
from pellucid.explanation import Provenance
from pellucid.findings import Finding, check_network, signed
from pellucid.image import Image, digest
from pellucid.model import Model, as_model
from pellucid.ops.descent import Adam
from pellucid.params import Count, Fraction, Positive, check
from pellucid.prototypes.making import picture_of
from pellucid.run import Run

CITE = "Dosovitskiy, Brox 2016, Inverting visual representations with convolutional networks, CVPR, arXiv:1506.02753"
FEWEST = 5  # images, below which nothing is learned and nothing left to check it
UNSEEN = (
    "It draws the mean of the images it was trained on that share a code: what is blurred, the site does not settle; what is sharp may be no more "
    "than what all of these images have in common."
)


class UpNet(nn.Module):
    """A code (n, c, *cells) or (n, c) to images (n, channels, *space): convolutions between enlargements by two."""

    def __init__(self, code: Sequence[int], image: Sequence[int], width: int) -> None:
        super().__init__()
        self.space, self.cells = tuple(image[1:]), tuple(code[1:])
        ndim = len(self.space)
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.flat = len(self.cells) != ndim
        grown = tuple(max(1, math.ceil(n / 16)) for n in self.space) if self.flat else self.cells
        self.spread = nn.Linear(math.prod(code), width * math.prod(grown)) if self.flat else nn.Identity()
        self.grown, before = grown, width if self.flat else code[0]
        rounds = max(1, round(math.log2(max(n / g for n, g in zip(self.space, grown, strict=True)))))
        layers: list[nn.Module] = []
        for k in range(rounds):
            after = max(width >> k, 8)
            layers += [conv(before, after, 3, padding=1), nn.LeakyReLU(0.1)]
            before = after
        self.layers, self.last = nn.ModuleList(layers), conv(before, image[0], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Images in standard units: 0 is the mean image."""
        x = self.spread(z.flatten(1)).unflatten(1, (-1, *self.grown)) if self.flat else z
        rounds = len(self.layers) // 2
        for k in range(rounds):
            x = self.layers[2 * k + 1](self.layers[2 * k](x))
            size = [round(g * (n / g) ** ((k + 1) / rounds)) for g, n in zip(self.grown, self.space, strict=True)]
            x = F.interpolate(x, size, mode="nearest")
        return self.last(x)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Inverter(Finding):
    """A trained inverter of one network's site. ``explained``: share of the variance about the mean image that it redraws, in ``held_out`` images that it
    was not trained on; ``trained_on`` as many as it learned from; ``weights`` its own."""

    kind = "inverter"
    site: str
    code: tuple[int, ...]
    image: tuple[int, ...]
    width: int
    explained: float
    explained_trained: float
    trained_on: int
    held_out: int
    weights: Mapping[str, NDArray[np.float32]] = field(repr=False)
    provenance: Provenance = field(repr=False)
    network: str = ""

    def sentences(self) -> tuple[str, ...]:
        """What was found, for people; the last says what it does not show."""
        known = f"({100 * self.explained_trained:.0f} % in the {self.trained_on} it was trained on)"
        share = f"{100 * self.explained:.0f} % of what tells {self.held_out} images apart that it has not seen {known}"
        nothing = f"no more of {self.held_out} images that it has not seen than the mean image does {known}: give more images or epochs"
        return (f"From the activation at {self.site!r} an inverter redraws {share if self.explained > 0 else nothing}.", UNSEEN)

    def invert(self, model: Any, scan: Scan) -> Image:
        """The image behind a scan's code.

        Raises:
            BadModel: another network than the one it was trained for.
            BadImage: a scan of another shape once prepared.
        """
        net = as_model(model)
        check_network(self, net)
        prepared, x = net.ready(as_image(scan))
        if tuple(x.shape) != self.image:
            raise BadImage(f"an image of shape {self.image}", f"{tuple(x.shape)}", "Prepare it as those it was trained on.")
        (seen,) = look(net, [scan], self.site)
        with torch.no_grad():
            return picture_of(prepared, self._draw(seen.activation.float()[None])[0].to(x.dtype))

    def _draw(self, code: Tensor) -> Tensor:
        state = {k: torch.from_numpy(np.array(v)) for k, v in self.weights.items()}
        mean, spread, middle, scale = (state.pop(k) for k in ("code.mean", "code.spread", "image.mean", "image.scale"))
        net = UpNet(self.code, self.image, self.width)
        net.load_state_dict(state)
        return middle + scale * net((code - _column(mean, code)) / _column(spread, code))


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.view(1, -1, *[1] * (like.ndim - 2))


def train_inverter(
    model: Any,
    scans: Sequence[Scan],
    site: str = "auto",
    *,
    epochs: int = 20,
    batch: int = 8,
    rate: float = 2e-3,
    width: int = 48,
    held_out: float = 0.2,
    folder: Any = None,
    run: Run | None = None,
) -> Inverter:
    """Train a network to redraw images from what they cause at a site: ``min E |x - D(phi(x))|^2``.

    Args:
        model: the network, described or bare; it stays as it is.
        scans: the user's images, of one shape once prepared, in an order that says nothing: the last of them are held out.
        site: whose activation is inverted.
        epochs, batch, rate: of Adam.
        width: channels of the first stage; each halves them.
        held_out: share of the images it is judged by.
        folder: where activations are kept, by content; a table that is larger than ``Run(memory=)`` goes to the disk.
        run: seed, memory, progress (batches done), cancel.

    Raises:
        BadImage: fewer than five images, or several shapes. Others as ``explain``.

    **Misleads when**: few images train it: it then draws what all of them share. ``explained`` is that of images it has not seen.

    **Source**: Dosovitskiy, Brox 2016, section 3. Differs: enlargement and convolution in place of transposed convolutions, which leave grids.
    """
    for name, kind, value in (("epochs", Count, epochs), ("batch", Count, batch), ("rate", Positive, rate), ("width", Count, width),
                              ("held_out", Fraction, held_out)):  # fmt: skip
        check("train_inverter", name, kind, value)
    if len(scans) < FEWEST:
        raise BadImage(f"at least {FEWEST} images", f"{len(scans)}", "Give more of the user's images.")
    began, run, net = time.perf_counter(), run or Run(), as_model(model)
    table = gather(net, scans, site, pool="none", folder=folder, run=run)
    away = min(max(1, round(held_out * len(scans))), len(scans) - 2)
    work = _Training(net, list(scans), table.rows, table.shape, len(scans) - away, run)
    state = work.train(epochs, batch, rate, width)
    seen, unseen = (work.explained(span) for span in (range(len(scans) - away), range(len(scans) - away, len(scans))))
    called = f"train_inverter(epochs={epochs}, batch={batch}, rate={rate}, width={width}, held_out={held_out}, images={len(scans)})"
    provenance = signed(
        net, run, called, image=digest(*table.images), seconds=time.perf_counter() - began, site=site, cite=CITE, notes=table.notes
    )  # fmt: skip
    return Inverter(
        site, table.shape, tuple(work.mean.shape), width, unseen, seen, len(scans) - away, away, state, provenance, net.identity
    )  # fmt: skip


@dataclass(eq=False)
class _Training:
    """Images and codes in standard units, read as they are needed."""

    model: Model
    scans: list[Scan]
    rows: NDArray[np.float32]
    shape: tuple[int, ...]
    known: int  # images it may learn from
    run: Run

    def __post_init__(self) -> None:
        total = self._image(0).double() * 0
        for i in range(self.known):
            total += self._image(i).double()
        self.mean = (total / self.known).float()
        around = sum(float((self._image(i) - self.mean).square().mean()) for i in range(self.known)) / self.known
        self.scale = torch.tensor([max(math.sqrt(around), 1e-12)])
        cells = self.rows[: self.known].reshape(self.known, self.shape[0], -1)
        self.center = torch.from_numpy(cells.mean((0, 2), dtype=np.float64).astype(np.float32))
        deep = np.sqrt(sum(np.square(c - self.center.numpy()[:, None]).mean(1, dtype=np.float64) for c in cells) / self.known)
        self.spread = torch.from_numpy(np.maximum(deep, 1e-3 * max(float(deep.max()), 1e-12)).astype(np.float32))

    def _image(self, i: int) -> Tensor:
        x = self.model.ready(as_image(self.scans[i]))[1].float().cpu()
        if hasattr(self, "mean") and x.shape != self.mean.shape:
            raise BadImage(f"images of one shape, {tuple(self.mean.shape)}", f"{tuple(x.shape)}", "Bring them to one size in prepare=.")
        return x

    def _code(self, at: Sequence[int]) -> Tensor:
        z = torch.from_numpy(np.stack([self.rows[i] for i in at])).unflatten(1, self.shape)
        return (z - _column(self.center, z)) / _column(self.spread, z)

    def _wanted(self, at: Sequence[int]) -> Tensor:
        return torch.stack([(self._image(i) - self.mean) / self.scale for i in at])

    def train(self, epochs: int, batch: int, rate: float, width: int) -> dict[str, NDArray[np.float32]]:
        """The weights, by name, with what brings codes and images to standard units."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.run.seed)
            self.net = UpNet(self.shape, tuple(self.mean.shape), width)
        random = torch.Generator().manual_seed(self.run.seed)
        weights = list(self.net.parameters())
        rules = [Adam(rate) for _ in weights]
        parts = math.ceil(self.known / batch)
        for done in range(epochs * parts):
            if done % parts == 0:
                order = torch.randperm(self.known, generator=random).tolist()
            at = order[(done % parts) * batch : (done % parts + 1) * batch]
            with torch.enable_grad():
                loss = (self.net(self._code(at)) - self._wanted(at)).square().mean()
                slopes = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for rule, w, g in zip(rules, weights, slopes, strict=True):
                    rule.rate = rate * (1 - 0.95 * done / (epochs * parts))
                    w.copy_(rule.step(w, g))
            if self.run.on_tick is not None:
                self.run.on_tick(done + 1, epochs * parts)
            if self.run.cancel.is_set():
                raise Cancelled("the run was asked to stop", f"{done + 1} of {epochs * parts} batches done", "Nothing was changed.")
        own = {"code.mean": self.center, "code.spread": self.spread, "image.mean": self.mean, "image.scale": self.scale}
        return {k: v.detach().numpy().copy() for k, v in (self.net.state_dict() | own).items()}

    @torch.no_grad()
    def explained(self, at: range) -> float:
        """Share of the variance about the mean image that is redrawn."""
        off = around = 0.0
        for i in at:
            wanted = self._wanted([i])
            off += float((self.net(self._code([i])) - wanted).double().square().sum())
            around += float(wanted.double().square().sum())
        return 1 - off / max(around, 1e-30)
