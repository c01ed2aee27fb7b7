"""Agreement with TorchRay's extremal perturbation (2D; its masks are float32), without its mirroring and without its margin.

TorchRay counts a mask's area in a margin of sigma around the image, too; here the margin is taken away from it. Its masks begin with
equal values, whose order its result depends on; so the whole is compared with one maker of masks, that order being kept by ours, too.
"""

from functools import partial

import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, name, net

import pellucid as pl
from pellucid.ops.masks import SmoothMaximum

theirs = pytest.importorskip("torchray.attribution.extremal_perturbation", reason="torchray is not installed")
SPACE = (22, 16)  # 7 and 5 steps of 3: their cells, too, then lie centered on the image
STEP, SIGMA = 3, 5.0


class Bare(theirs.MaskGenerator):
    """Their maker of masks without its margin."""

    margin = property(lambda self: 0, lambda self, value: None)


class Ours(Bare):
    """Our maker of masks in its place."""

    def generate(self, cells):
        ready = SmoothMaximum(SPACE, (1.0, 1.0), STEP, SIGMA).ready(cells)
        made = torch.stack([ready.mask(c[0])[None] for c in cells])
        return made, made


def picture():
    return torch.rand((2, *SPACE), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def masks(dims):
    """The smooth maximum alone, for random cells."""
    maker = Bare(SPACE, STEP, SIGMA)
    cells = torch.rand(maker.shape_in, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = SmoothMaximum(SPACE, (1.0, 1.0), STEP, SIGMA)
    assert ours.cells == tuple(maker.shape_in)
    return ours.ready(cells).mask(cells)[None], maker.generate(cells[None, None])[0][0]


def perturbed(dims):
    mask = torch.rand((1, 1, *SPACE), generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    peer = theirs.Perturbation(picture()[None].float(), num_levels=8, max_blur=7).apply(mask)[0]
    scope = pl.extremal_perturbation.fn.__globals__
    return scope["_perturbed"](scope["_stages"](picture().float(), "blur", 8, (7.0, 7.0), "zero"), mask[0, 0]), peer


def whole(perturbation, variant, steps=40):
    def maps(dims):
        areas, made = [0.1, 0.3], net(2).float()
        x = picture().float()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(theirs, "MaskGenerator", Ours)
            patch.setitem(pl.extremal_perturbation.fn.__globals__, "TIE", -1.0)
            patch.setattr(theirs, "Perturbation", partial(theirs.Perturbation, max_blur=7))
            peer, _ = theirs.extremal_perturbation(
                made, x[None], TARGET, areas, perturbation, steps, 8, STEP, SIGMA, False, variant, smooth=0
            )  # fmt: skip
            params = {"areas": areas, "perturbation": perturbation, "variant": variant, "max_sigma": "7px", "edge": "zero"}
            lengths = {"step": f"{STEP}px", "sigma": f"{SIGMA}px", "jitter": "0px"}
            made = net(2).float()
            why = pl.explain(made, x, TARGET, method="extremal_perturbation", steps=steps - 1, **params, **lengths)
        return why.trace["masks"], peer[:, 0]  # their last step moves no mask that they return

    return maps


ROWS = [
    Row("TorchRay", "extremal_perturbation, its masks", masks, 1e-6, (2,)),
    Row("TorchRay", "extremal_perturbation, its blur", perturbed, 1e-4, (2,)),
    Row("TorchRay", "extremal_perturbation, blur", whole("blur", "preserve"), 1e-5, (2,)),
    Row("TorchRay", "extremal_perturbation, fade, delete", whole("fade", "delete"), 1e-5, (2,)),
    Row("TorchRay", "extremal_perturbation, fade, dual", whole("fade", "dual"), 1e-5, (2,)),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_extremal(row, dims):
    row.check(dims)
