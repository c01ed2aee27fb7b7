"""The head: a ridge-penalized logistic regression on what a network's last layer is given, fitted to the end in float64, with its Hessian."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadImage, BadModel, BadParameter, Unsupported
from pellucid.model import Model
from pellucid.probe.ledger import untouched
from pellucid.run import Meter, Run

Floats = NDArray[np.float64]
MOST = 6000  # weights of a head whose Hessian is factored (288 MB)
STEPS, STILL = 100, 1e-10  # of Newton's method, and the gradient at which it has ended


@dataclass(frozen=True, eq=False)
class Head:
    """Weights (c, d + 1), the last column the bias, that minimize sum_i loss_i + n penalty / 2 |weights|^2 over n images; loss is -log p of the label.

    ``rows`` (n, d + 1) are the features, moved and scaled to mean 0 and standard deviation 1 over the training images, and a 1; ``truth`` (n,)
    the classes. The bias is penalized too, so that the minimum is one point.
    """

    weights: Floats
    rows: Floats = field(repr=False)
    truth: NDArray[np.int64] = field(repr=False)
    classes: tuple[str, ...]
    penalty: float
    middle: Floats = field(repr=False)
    spread: Floats = field(repr=False)

    def standard(self, rows: NDArray[np.floating]) -> Floats:
        """Features (n, d) as the head takes them: (n, d + 1)."""
        x = np.asarray(rows, np.float64)
        if x.ndim != 2 or x.shape[1] != len(self.middle):
            raise BadParameter(f"features (n, {len(self.middle)})", f"shape {x.shape}", "Take them from the same network.")
        return _with_one((x - self.middle) / self.spread)

    def log_probabilities(self, rows: Floats) -> Floats:
        """Of all classes (n, c), for rows that are standard."""
        z = rows @ self.weights.T
        z = z - z.max(1, keepdims=True)
        return np.asarray(z - np.log(np.exp(z).sum(1, keepdims=True)))

    @cached_property
    def factor(self) -> Floats:
        """The lower Cholesky factor of the Hessian of the whole objective, (c (d + 1),) squared."""
        return np.asarray(np.linalg.cholesky(hessian(self.weights, self.rows, self.penalty)), np.float64)

    def solve(self, columns: Floats) -> Floats:
        """The inverse Hessian times columns (p, m)."""
        from scipy.linalg import cho_solve

        return np.asarray(cho_solve((self.factor, True), columns, check_finite=False))

    @cached_property
    def gradients(self) -> Floats:
        """Of each training image's loss with respect to the weights: (n, p)."""
        return loss_gradients(self, self.rows, self.truth)


def loss_gradients(head: Head, rows: Floats, truth: NDArray[np.int64]) -> Floats:
    """(p - y) times the row, for each row: (n, c (d + 1))."""
    away = np.exp(head.log_probabilities(rows))
    away[np.arange(len(rows)), truth] -= 1
    return np.asarray((away[:, :, None] * rows[:, None]).reshape(len(rows), -1))


def hessian(weights: Floats, rows: Floats, penalty: float) -> Floats:
    """sum_i (diag p - p p^T) x x^T + n penalty: (p, p)."""
    p = _probabilities(weights, rows)
    c, d = weights.shape
    blocks = np.empty((c, d, c, d))
    for a in range(c):
        for b in range(c):
            weight = p[:, a] * ((a == b) - p[:, b])
            blocks[a, :, b] = (rows * weight[:, None]).T @ rows
    h: Floats = blocks.reshape(c * d, c * d)
    h[np.diag_indices(c * d)] += len(rows) * penalty
    return h


def fit_head(features: NDArray[np.floating], labels: Sequence[object], *, penalty: float = 1e-3, start: Floats | None = None) -> Head:
    """Fit the head to features (n, d) and n labels, by Newton's method until its gradient is 0 to 1e-10 an image.

    Args:
        features: what the network's last layer is given, a row an image.
        labels: of each image, two classes or more.
        penalty: ridge penalty of the mean loss; what it adds keeps the total the same when an image is left out.
        start: weights to start from.

    Raises:
        BadParameter: one class, not as many labels as images, a penalty that is not above 0.
        BadImage: features that are not finite.
        Unsupported: more than 6000 weights.
    """
    x = np.asarray(features, np.float64)
    if x.ndim != 2 or len(x) != len(labels):
        raise BadParameter("features (n, d) with n labels", f"shape {x.shape} and {len(labels)} labels", "Give a label for each image.")
    if not np.isfinite(x).all():
        raise BadImage("finite features", "NaN or infinity", "Look at the images' values.")
    classes = tuple(sorted({str(v) for v in labels}))
    if len(classes) < 2:
        raise BadParameter("two classes or more", ", ".join(classes) or "none", "Give images of another class too.")
    if not (math.isfinite(penalty) and penalty > 0):
        raise BadParameter("penalty is above 0", repr(penalty), "Write 1e-3.")
    if len(classes) * (x.shape[1] + 1) > MOST:
        got = f"{len(classes)} classes times {x.shape[1]} features"
        raise Unsupported(f"a head of at most {MOST} weights", got, "Use influence_by_cg, or pool the features.")
    middle, spread = x.mean(0), x.std(0)
    spread = np.where(spread > 1e-12 * (np.abs(middle) + 1e-300), spread, 1.0)
    rows = _with_one((x - middle) / spread)
    truth = np.array([classes.index(str(v)) for v in labels])
    weights = np.zeros((len(classes), rows.shape[1])) if start is None else start
    return Head(newton(weights, rows, truth, penalty), rows, truth, classes, penalty, middle, spread)


def newton(weights: Floats, rows: Floats, truth: NDArray[np.int64], penalty: float, *, total: int | None = None) -> Floats:
    """The minimum of sum_i loss_i + total penalty / 2 |weights|^2 (``total`` n unless said), by Newton's method with halved steps."""
    n = len(rows) if total is None else total
    hit = np.zeros((len(rows), len(weights)))
    hit[np.arange(len(rows)), truth] = 1

    def loss(w: Floats) -> float:
        z = rows @ w.T
        top = z.max(1)
        return float((np.log(np.exp(z - top[:, None]).sum(1)) + top - (z * hit).sum(1)).sum() + n * penalty / 2 * (w**2).sum())

    for _ in range(STEPS):
        slope = (_probabilities(weights, rows) - hit).T @ rows + n * penalty * weights
        if np.abs(slope).max() <= STILL * len(rows):
            return weights
        h = hessian(weights, rows, penalty * n / len(rows))
        step, before = np.linalg.solve(h, slope.ravel()).reshape(weights.shape), loss(weights)
        share = 1.0
        while loss(weights - share * step) > before + 1e-12 * abs(before) and share > 1e-6:
            share /= 2
        weights = weights - share * step
    raise BadModel("a head that can be fitted", f"a slope of {np.abs(slope).max():.1e} after {STEPS} steps", "Give a larger penalty.")


def head_inputs(model: Model, scans: Sequence[Scan], *, layer: str | None = None, run: Run | None = None) -> tuple[Floats, list[str], str]:
    """What the last linear layer is given for each scan (n, d), the images' fingerprints, and the layer's name; one pass an image.

    Args:
        model: the network described.
        scans: images, tensors (c, *space) or paths.
        layer: the name of a Linear (or 1 x 1 convolution after pooling) that gives the outputs; None: the last Linear that runs.
        run: progress, cancel.

    Raises:
        Unsupported: a network without a linear layer at its end, or windows.
        BadParameter: no image, or a layer that does not exist.
    """
    if model.windows is not None:
        raise Unsupported("the head of a network that sees the whole image", "windows=", "Crop in prepare= and leave windows= out.")
    if not len(scans):
        raise BadParameter("at least one image", "none", "Give the images.")
    model.check_weights()
    meter = Meter(run or Run(), total=len(scans))
    rows, images, name = [], [], layer or ""
    for scan in scans:
        image, x = model.ready(as_image(scan))
        with untouched(model.module), torch.no_grad(), _heard(model.module, layer) as heard:
            out = model.forward(x[None])
        name, given, gave = _last(heard, model.name)
        if gave.numel() != out.numel() or not torch.allclose(gave.flatten(), out.flatten()):
            fix = "Name the layer that gives the logits: layer='fc'; or give features of your own to fit_head."
            raise Unsupported("a network that ends in a linear layer", f"{name!r}, whose output is not the network's", fix)
        rows.append(given.flatten().double().cpu().numpy())
        images.append(image.fingerprint)
        meter.tick(forward=1)
    return np.stack(rows), images, name


@contextlib.contextmanager
def _heard(module: nn.Module, layer: str | None) -> Iterator[list[tuple[str, Tensor, Tensor]]]:
    """What linear layers were given and gave, in the order in which they ran."""
    modules: dict[str, nn.Module] = dict(module.named_modules())
    if layer is not None and layer not in modules:
        raise BadParameter("a layer of the network", repr(layer), f"Its last: {', '.join(repr(n) for n in list(modules)[-3:])}.")
    heard: list[tuple[str, Tensor, Tensor]] = []

    def listen(name: str) -> Any:
        return lambda _m, args, out: heard.append((name, args[0].detach().clone(), out.detach().clone()))

    chosen = {n: m for n, m in modules.items() if (n == layer if layer is not None else isinstance(m, nn.Linear))}
    handles = [m.register_forward_hook(listen(n)) for n, m in chosen.items()]
    try:
        yield heard
    finally:
        for h in handles:
            h.remove()


def _last(heard: list[tuple[str, Tensor, Tensor]], name: str) -> tuple[str, Tensor, Tensor]:
    if not heard:
        raise Unsupported("a network that ends in a linear layer", f"{name} without one", "Give features of your own to fit_head.")
    return heard[-1]


def _probabilities(weights: Floats, rows: Floats) -> Floats:
    z = rows @ weights.T
    z = np.exp(z - z.max(1, keepdims=True))
    return np.asarray(z / z.sum(1, keepdims=True))


def _with_one(x: Floats) -> Floats:
    return np.concatenate([x, np.ones((len(x), 1))], 1)
