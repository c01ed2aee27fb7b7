"""TracIn: training images that moved a prediction while the network learned, by the gradients at checkpoints of the training."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pellucid.asking import Scan, as_image
from pellucid.errors import BadFile, BadParameter
from pellucid.exemplars.gradients import Loss, Weighed, batches, class_of, paired, prepared, weigh
from pellucid.exemplars.influence import Influence
from pellucid.explanation import Evidence
from pellucid.findings import signed
from pellucid.image import digest
from pellucid.model import Model, as_model
from pellucid.run import Meter, Run

CITE = "Pruthi et al. 2020, Estimating training data influence by tracing gradient descent, NeurIPS, arXiv:2002.08484"
Checkpoint = Mapping[str, Tensor] | str | Path


@torch.inference_mode(mode=False)
@torch.enable_grad()
def tracin(
    net: Model | nn.Module,
    training: Sequence[Scan],
    labels: Sequence[object],
    image: Scan,
    target: object,
    *,
    checkpoints: Sequence[Checkpoint],
    rates: Sequence[float] | float,
    layers: str | Sequence[str] | None = None,
    loss: Loss | None = None,
    run: Run | None = None,
) -> Influence:
    """Training images that moved the prediction while the network learned: sum over checkpoints of the rate times the product of two gradients.

    A training image's value is sum_t rate_t grad loss(image, target) . grad loss(training image, its label), to first order what its steps added
    to the log probability of the target, if the training was plain gradient descent of those rates; for other optimizers it is a likeness.

    Args:
        net: a Model, or a bare network; its weights are copied, never changed.
        training: images that it learned from.
        labels: of each, by name or number of the class.
        image: the image whose prediction is asked about.
        target: the class asked about.
        checkpoints: state dicts, or files of them (loaded as weights only), in any order.
        rates: learning rate at each checkpoint, or one for all.
        layers: None: all weights; ``"last"``: those of the last linear layer, which is fast and often ranks alike; or names that they begin with.
        loss: (output (n, c), labels (n,)) to one number, summed over images; None: cross-entropy.
        run: progress (an image at a checkpoint is a tick), cancel.

    Raises:
        BadParameter: no checkpoint, not as many rates, a label or target that is no class.
        BadFile: a checkpoint that does not fit the network.
        Unsupported: weights without a gradient, by name.

    **Source**: Pruthi et al. 2020 (NeurIPS), section 3.3 (TracInCP) and 4 (last layer).
    """
    began, model, run = time.perf_counter(), as_model(net), run or Run()
    paired(model, training, labels)
    steps = [rates] * len(checkpoints) if isinstance(rates, (int, float)) else list(rates)
    if not len(checkpoints) or len(steps) != len(checkpoints):
        raise BadParameter("checkpoints, with a rate each", f"{len(checkpoints)} and {len(steps)}", "Give as many.")
    weighed = weigh(model, layers, loss)
    at = class_of(model, target)
    meter = Meter(run, total=len(checkpoints) * (len(training) + 1))
    values = np.zeros(len(training))
    for checkpoint, rate in zip(checkpoints, steps, strict=True):
        _load(weighed, checkpoint)
        ((x, y),) = batches(weighed, [image], [at])
        query = weighed.gradient(x, y)
        meter.tick(forward=1, backward=1)
        for i, (x, y) in enumerate(batches(weighed, training, labels)):
            values[i] += float(rate) * float(query @ weighed.gradient(x, y))
            meter.tick(forward=1, backward=1)
    scan, ready = prepared(model, image)
    images = tuple(model.ready(as_image(s))[0].fingerprint for s in training)
    text = (
        f"tracin(checkpoints={len(checkpoints)}, rates={steps!r}, layers={layers!r}, training={len(training)}, of={digest(*images)[:16]!r})"
    )
    caveats = () if all(s == steps[0] for s in steps) else ("rates differ between checkpoints",)
    told = signed(
        model, run, text, target=str(target), image=ready.fingerprint, scan=scan.fingerprint, seconds=time.perf_counter() - began, cite=CITE,
        notes=caveats,
    )  # fmt: skip
    return Influence(
        ready.grid, told, Evidence(), values, tuple(map(str, labels)), str(target), float("nan"), ready, scan, model.identity, images
    )


def _load(weighed: Weighed, checkpoint: Checkpoint) -> None:
    state: Any = checkpoint
    fix = "Give state dicts of this network."
    try:
        if isinstance(checkpoint, (str, Path)):
            state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        weighed.model.module.load_state_dict(state)
    except FileNotFoundError as error:
        raise BadFile(f"a checkpoint: {checkpoint}", "no such file", fix) from error
    except Exception as error:
        got = f"{type(error).__name__}: {(str(error).splitlines() or [''])[-1].strip()[:120]}"
        raise BadFile("a checkpoint of this network", got, fix) from error
