"""How each peer is called for the same question: rows of (method, parameters, peer, call by batch size)."""

from __future__ import annotations

import numpy as np
import torch


def raw(net, x):
    """One gradient by autograd: the unit of all methods of one pass."""

    def go():
        leaf = x[None].clone().requires_grad_()
        torch.autograd.grad(net(leaf)[0, 1], leaf)

    return lambda _b: go


def pair(net):
    """A network as PAIR saliency wants it: pictures (n, h, w, c) in, gradients out."""
    from saliency.core import INPUT_OUTPUT_GRADIENTS

    def call(images, call_model_args=None, expected_keys=None):
        leaf = torch.as_tensor(np.asarray(images)).float().permute(0, 3, 1, 2).requires_grad_()
        (g,) = torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)
        return {INPUT_OUTPUT_GRADIENTS: g.permute(0, 2, 3, 1).numpy()}

    return call


def quantiles():
    """PAIR's Guided IG calls np.quantile by a name that numpy 2.4 took away."""
    own = np.quantile
    if getattr(own, "named", False):
        return

    def quantile(a, q, *args, interpolation=None, **kwargs):
        return own(a, q, *args, method=interpolation or kwargs.pop("method", "linear"), **kwargs)

    quantile.named = True
    np.quantile = quantile


def paths(net, x, quick):
    """Gradients along paths and over noise."""
    from captum.attr import GradientShap, IntegratedGradients, LayerConductance, NoiseTunnel, Saliency
    from saliency.core import XRAI, BlurIG, GuidedIG, XRAIParameters

    quantiles()
    steps, n = (8, 5) if quick else (32, 25)
    image, call = x.permute(1, 2, 0).double().numpy(), pair(net)
    ig, noise, shap, through = IntegratedGradients(net), NoiseTunnel(Saliency(net)), GradientShap(net), LayerConductance(net, net.layer3)
    smooth = {"nt_type": "smoothgrad", "nt_samples": n, "stdevs": 0.15, "target": 1, "abs": False}
    black, whole = torch.zeros_like(x), XRAIParameters(steps=steps)
    return [
        (
            "integrated_gradients",
            {"steps": steps},
            "Captum",
            lambda b: lambda: ig.attribute(x[None], target=1, n_steps=steps, internal_batch_size=b),
        ),
        ("smoothgrad", {"n": n}, "Captum", lambda b: lambda: noise.attribute(x[None], nt_samples_batch_size=b, **smooth)),
        (
            "blur_ig",
            {"steps": steps, "max_sigma": "20px"},
            "PAIR saliency",
            lambda b: lambda: BlurIG().GetMask(image, call, max_sigma=20, steps=steps, batch_size=b),
        ),
        ("guided_ig", {"steps": steps}, "PAIR saliency", lambda b: lambda: GuidedIG().GetMask(image, call, x_steps=steps)),
        (
            "expected_gradients",
            {"samples": n, "baseline": "black"},
            "Captum",
            lambda b: lambda: shap.attribute(x[None], black[None], n_samples=n, target=1),
        ),
        (
            "conductance",
            {"steps": steps, "site": "layer3"},
            "Captum",
            lambda b: lambda: through.attribute(x[None], target=1, n_steps=steps, internal_batch_size=b),
        ),
        (
            "xrai",
            {"inner": f"integrated_gradients(baseline=black_and_white, steps={steps})"},
            "PAIR saliency (segments too, batch 8)",
            lambda _b: lambda: XRAI().GetMask(image, call, batch_size=8, extra_parameters=whole),
        ),
    ]


def perturbations(net, x, quick):
    """Scores of changed images."""
    from captum.attr import KernelShap, Lime, Occlusion

    n, window = (40, 64) if quick else (200, 32)
    occlusion, lime, shap = Occlusion(net), Lime(net), KernelShap(net)
    shape, stride = (3, window, window), (3, window // 2, window // 2)
    labels = (torch.arange(224) // 32)[:, None] * 7 + (torch.arange(224) // 32)[None]
    call = {"target": 1, "feature_mask": labels[None, None], "n_samples": n}
    return [
        (
            "occlusion",
            {"window": f"{window}px", "stride": f"{window // 2}px"},
            "Captum",
            lambda b: lambda: occlusion.attribute(x[None], shape, stride, target=1, perturbations_per_eval=b),
        ),
        (
            "lime",
            {"segments": labels, "samples": n, "fill": "black"},
            "Captum",
            lambda b: lambda: lime.attribute(x[None], perturbations_per_eval=b, **call),
        ),
        (
            "kernel_shap",
            {"segments": labels, "samples": n},
            "Captum",
            lambda b: lambda: shap.attribute(x[None], perturbations_per_eval=b, **call),
        ),
        ("rise", {"masks": 64 if quick else 256}, "none", None),
    ]


def cams(net, x, quick):
    """Class activation maps."""
    from captum.attr import LayerGradCam
    from pytorch_grad_cam import AblationCAM, EigenCAM, GradCAMPlusPlus, LayerCAM, ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    targets = [ClassifierOutputTarget(1)]
    rows = [("grad_cam", {"site": "layer4"}, "Captum", lambda b: lambda: LayerGradCam(net, net.layer4).attribute(x[None], target=1))]
    for name, peer in {"grad_cam_plus_plus": GradCAMPlusPlus, "layer_cam": LayerCAM, "eigen_cam": EigenCAM}.items():
        made = peer(net, [net.layer4])
        rows.append((name, {"site": "layer4"}, "pytorch-grad-cam", lambda b, made=made: lambda: made(x[None], targets)))
    site = "layer1" if quick else "layer4"  # one pass for each of its channels: 64 or 512
    for name, peer in {"score_cam": ScoreCAM, "ablation_cam": AblationCAM}.items():

        def by(b, peer=peer):
            made = peer(net, [getattr(net, site)])
            made.batch_size = b
            return lambda: made(x[None], targets)

        rows.append((name, {"site": site}, "pytorch-grad-cam", by))
    return rows


def rules(net, x, quick):
    """Backward passes by rule: the peer is Captum or zennit where one runs on such a network, else one gradient by autograd."""
    one = raw(net, x)
    return [
        (name, params, "raw autograd", one)
        for name, params in (
            ("saliency", {}),
            ("guided_backprop", {}),
            ("deconvnet", {}),
            ("excitation_backprop", {}),
            ("deeplift", {}),
            ("lrp", {"composite": "epsilon"}),
            ("lrp", {"composite": "epsilon_plus"}),
            ("lrp", {"composite": "epsilon_alpha2_beta1"}),
        )
    ]
