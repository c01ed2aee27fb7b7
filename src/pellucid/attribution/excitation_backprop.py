"""Excitation backpropagation."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from pellucid.errors import Unsupported
from pellucid.method import NOTHING, RULES, SHARES, Cite, Cost, method
from pellucid.params import Flag
from pellucid.probe.probe import Drawn, Probe
from pellucid.probe.rules.excitation import Top, excitation


@method(
    cite=Cite("Zhang, Lin, Brandt, Shen, Sclaroff", 2016, "Top-down neural attention by excitation backprop", "ECCV", arxiv="1608.00507"),
    asks=RULES,
    gives=NOTHING,
    values=SHARES,
    cost=lambda contrastive, **_: Cost(forward=1 + contrastive, backward=1 + contrastive),
)
def excitation_backprop(probe: Probe, x: Float[Tensor, "c *space"], *, contrastive: Flag = False) -> Drawn:
    """How probable it is that the target's excitation comes from here, if at every unit one of its exciting inputs wins.

    ``p(x_j) = sum over units i above of max(w_ij * x_j, 0) / sum over j of max(w_ij * x_j, 0) * p(i)``, biases left out: shares of at least
    0 that sum to 1 at every layer, shape (c, *space). The prior is the target's slope at the outputs: one logit, or shares of several.

    Args:
        contrastive: subtract the map of the same network with the weights of its last weighted operation negated (the target "not this
            class"); of each place, channels summed, keep what is above 0: what speaks for this class alone. Shape (1, *space), a second pass.

    Misleads when: taken as for or against: only what excites is followed, and hidden inhibition is not seen. Without contrast the
        map shows what is salient for any class. A part without any positive contribution loses its share: see ``sum`` in the trace.

    Source: equations 1, 6 and 9. Beyond the paper (activations of at least 0): units below 0 win by being low; activations and norms pass
        all on (statistics and attention as given), products pass half to each factor; the map says so. The contrast is truncated where it is shown, as TorchRay does.

    >>> import pellucid as pl, torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 2))
    >>> why = pl.explain(net, torch.rand(1, 8, 8), target=1, method="excitation_backprop", site="1")
    >>> round(why.total, 5), bool((why.values >= 0).all())
    (1.0, True)
    """
    values = probe.ruled(excitation("excitation_backprop")).gradient.abs()
    won = float(values.double().sum())
    if contrastive:
        top = Top()
        values = values - probe.ruled(excitation("excitation_backprop", top)).gradient.abs()
        values = (values.sum(0, keepdim=True) if values.ndim > 1 else values).clamp_min(0)
        if not abs(top.through - 1) < 1e-3:
            got = f"a last one through which {top.through:.3g} of the target's excitation passes"
            fix = "Leave out contrastive, or choose a site before it."
            raise Unsupported("contrast needs one last weighted operation behind the site", got, fix)
    return probe.map(values, sum=won)
