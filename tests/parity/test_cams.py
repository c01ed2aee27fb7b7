"""Agreement with MONAI (raw maps) and pytorch-grad-cam (after its min-max, in float32) at a site with the image's resolution."""

import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net, ours


def monai(dims):
    visualize = pytest.importorskip("monai.visualize", reason="monai is not installed")
    peer = visualize.GradCAM(net(dims), target_layers="2").compute_map(image(dims)[None], class_idx=TARGET)
    return ours(dims, "grad_cam", site="2"), peer[0]


def jacobgil(method, theirs, **params):
    def maps(dims):
        peers = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
        targets = [pytest.importorskip("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget(TARGET)]
        made, x = net(dims, dtype=torch.float32), image(dims, torch.float32)
        with getattr(peers, theirs)(made, [made[2]]) as cam:
            theirs_map = torch.from_numpy(cam(x[None], targets)[0])
        raw = ours(dims, method, x, net(dims, dtype=torch.float32), site="2", **params)[0]
        return (raw - raw.min()) / (raw - raw.min()).max(), theirs_map

    return maps


ROWS = [
    Row("MONAI", "grad_cam", monai, 1e-12),
    Row("pytorch-grad-cam", "grad_cam, min-max", jacobgil("grad_cam", "GradCAM"), 1e-5),
    Row("pytorch-grad-cam", "hires_cam(relu=True), min-max", jacobgil("hires_cam", "HiResCAM", relu=True), 1e-5),
    Row("pytorch-grad-cam", "layer_cam, min-max", jacobgil("layer_cam", "LayerCAM"), 1e-5),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_cams(row, dims):
    row.check(dims)
