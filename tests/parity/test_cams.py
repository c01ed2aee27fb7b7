"""Agreement with MONAI (raw maps) and pytorch-grad-cam (after its min-max, in float32) at a site with the image's resolution."""

import copy

import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net, ours

import pellucid as pl

SCALE = 100.0  # of the score: theirs adds an epsilon to squared slopes, which small slopes do not outweigh


def monai(dims):
    visualize = pytest.importorskip("monai.visualize", reason="monai is not installed")
    peer = visualize.GradCAM(net(dims), target_layers="2").compute_map(image(dims)[None], class_idx=TARGET)
    return ours(dims, "grad_cam", site="2"), peer[0]


def jacobgil(method, theirs, scale=SCALE, **params):
    def maps(dims):
        peers = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
        targets = [lambda output: scale * output[TARGET]]
        made, x = net(dims, dtype=torch.float32), image(dims, torch.float32)
        with getattr(peers, theirs)(made, [made[2]]) as cam:
            theirs_map = torch.from_numpy(cam(x[None], targets)[0])
        why = pl.explain(net(dims, dtype=torch.float32), x, scale * pl.logit(TARGET), method=method, site="2", **params)
        raw = why.values[0].relu()
        return (raw - raw.min()) / (raw - raw.min()).max(), theirs_map

    return maps


def eigen(dims):
    """Their singular vector has whatever sign the decomposition gave it; ours is turned theirs."""
    values, theirs_map = jacobgil("eigen_cam", "EigenCAM")(dims)
    raw = ours(dims, "eigen_cam", image(dims, torch.float32), net(dims, dtype=torch.float32), site="2")[0]
    turned = (-raw).relu() / (-raw).max()
    return (values if (values - theirs_map).abs().max() < (turned - theirs_map).abs().max() else turned), theirs_map


def cam_head(dims):
    """MONAI reads the last layer at every place; so it adds the bias everywhere and does not divide by the number of places."""
    visualize = pytest.importorskip("monai.visualize", reason="monai is not installed")
    random = torch.Generator().manual_seed(5)
    made = net(dims)
    made[3] = torch.nn.AdaptiveAvgPool2d(1) if dims == 2 else torch.nn.AdaptiveAvgPool3d(1)
    made[5] = torch.nn.Linear(4, 3, dtype=torch.float64)
    with torch.no_grad():
        for p in made[5].parameters():
            p.copy_(torch.randn(p.shape, generator=random, dtype=p.dtype))
    why = ours(dims, "cam", None, made, site="2")
    peer = visualize.CAM(copy.deepcopy(made), target_layers="2", fc_layers="5").compute_map(
        image(dims)[None], class_idx=torch.tensor([TARGET])
    )
    return why, (peer[0] - made[5].bias[TARGET]) / why.numel()


ROWS = [
    Row("MONAI", "cam", cam_head, 1e-12),
    Row("MONAI", "grad_cam", monai, 1e-12),
    Row("pytorch-grad-cam", "grad_cam, min-max", jacobgil("grad_cam", "GradCAM"), 1e-5),
    Row("pytorch-grad-cam", "hires_cam(relu=True), min-max", jacobgil("hires_cam", "HiResCAM", relu=True), 1e-5),
    Row("pytorch-grad-cam", "layer_cam, min-max", jacobgil("layer_cam", "LayerCAM"), 1e-5),
    Row("pytorch-grad-cam", "grad_cam_plus_plus, min-max", jacobgil("grad_cam_plus_plus", "GradCAMPlusPlus"), 1e-5),
    Row("pytorch-grad-cam", "xgrad_cam, min-max", jacobgil("xgrad_cam", "XGradCAM"), 1e-5),
    Row("pytorch-grad-cam", "eigen_cam, relu, min-max, but for the sign", eigen, 1e-5),
    Row("pytorch-grad-cam", "score_cam, min-max", jacobgil("score_cam", "ScoreCAM", scale=1.0), 1e-5, dims=(2,)),  # in 3D theirs fails
    Row("pytorch-grad-cam", "ablation_cam, min-max", jacobgil("ablation_cam", "AblationCAM"), 1e-5, dims=(2,)),  # in 3D theirs fails
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_cams(row, dims):
    row.check(dims)
