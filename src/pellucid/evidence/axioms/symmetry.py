"""Symmetry: does the map turn over when image and network are turned over together?"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import replace

import torch
from torch import Tensor, nn

from pellucid.errors import BadParameter, Unsupported
from pellucid.evidence.axioms.sums import FAIL, PASS
from pellucid.evidence.axioms.twins import UNIT, compared
from pellucid.evidence.metric import MAPS_ANEW, Price, metric
from pellucid.evidence.panel import Panel
from pellucid.explanation import Measurement
from pellucid.method import Cite
from pellucid.params import Axes

NAME = "symmetry"


@metric(
    cite=Cite("Sundararajan, Taly, Yan", 2017, "Axiomatic attribution for deep networks", "ICML", "1703.01365"),
    unit=UNIT,
    better="zero",
    reference=f"0; pass to {PASS:.0%}, fail above {FAIL:.0%}",
    needs=MAPS_ANEW,
    price=lambda **_: Price(anew=1),
)
def symmetry(panel: Panel, *, axes: Axes = 0) -> dict[str, Measurement]:
    """How much the map depends on the side that the method itself starts from: the mirrored network sees the mirrored image.

    ``|flip(a'(flip(x))) - a(x)|_1 / |a(x)|_1`` (*space), where a' explains ``f'(y) = f(flip(y))``, which gives the very same answers. A method that
    favors no side gives 0, whatever the network.

    Args:
        axes: spatial axes that are reversed together.

    **Misleads when**: a method that draws at random differs by its own chance, and one that searches for segments may divide a mirrored image
        otherwise; the number then tells that scatter. It says nothing of symmetries of the network itself.
    **Source**: the symmetry axiom of Sundararajan et al. 2017, section 4, for the exchange of mirrored samples; the exactly symmetric
        network of the axiom is had from any network by mirroring both.
    """
    turned = [axes] if isinstance(axes, int) else list(axes)
    if max(turned) >= panel.grid.ndim:
        raise BadParameter(f"axes below {panel.grid.ndim}", repr(axes), "Name axes that the image has.")
    back = [a - panel.grid.ndim for a in turned]

    def flip(t: Tensor) -> Tensor:
        return t.flip(back)

    def say(gap: float) -> str:
        return f"Mirrored with its network, the image gives {'the mirrored map' if gap <= PASS else 'another map'}: {gap:.1%} of it is different."

    if panel.model.windows is not None:
        raise Unsupported("symmetry mirrors whole images", "a network that runs in windows", "Leave it out.")
    twin = replace(panel.model, module=mirrored(panel.model.module, back))
    return compared(panel, NAME, twin, flip(panel.x), flip, say)


def mirrored(module: nn.Module, axes: list[int]) -> nn.Module:
    """The network that turns its input over first and shares all else, so that its sites keep their names; its outputs stay as they are.

    Raises:
        Unsupported: TorchScript, whose outermost module cannot be copied.
    """
    if isinstance(module, torch.jit.ScriptModule):
        raise Unsupported("symmetry needs a network whose input can be turned over", "TorchScript", "Load the factory with its weights.")
    twin = copy.copy(module)
    twin._forward_pre_hooks = OrderedDict()  # a shallow copy shares the hooks' dictionaries with the network itself
    twin._forward_pre_hooks_with_kwargs = OrderedDict()
    twin.register_forward_pre_hook(lambda _module, given: (given[0].flip(axes), *given[1:]))
    for key, hook in module._forward_pre_hooks.items():
        if key not in module._forward_pre_hooks_with_kwargs:
            twin.register_forward_pre_hook(hook)
    return twin
