"""explain(): put model, image, target, method, site and evidence together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args, overload

from torch import nn

from pellucid.asking import Scan, as_image, explain_all
from pellucid.errors import BadParameter
from pellucid.evidence import Level, examine
from pellucid.explanation import Map
from pellucid.method import Ask, Method, read_method
from pellucid.model import Model, as_model
from pellucid.run import Run
from pellucid.target import as_target


@overload
def explain(  # type: ignore[overload-overlap]  # "all" is a str too
    net: Model | nn.Module,
    image: Scan | Sequence[Scan],
    target: Any = ...,
    *,
    method: Method[Any] | str = ...,
    site: Literal["all"],
    run: Run | None = ...,
    evidence: Level = ...,
    **params: Any,
) -> list[Map]: ...
@overload
def explain(
    net: Model | nn.Module,
    image: Scan,
    target: Any = ...,
    *,
    method: Method[Any] | str = ...,
    site: str | None = ...,
    run: Run | None = ...,
    evidence: Level = ...,
    **params: Any,
) -> Map: ...
@overload
def explain(
    net: Model | nn.Module,
    image: Scan | Sequence[Scan],
    target: Any = ...,
    *,
    method: Method[Any] | str = ...,
    site: str | Sequence[str] | None = ...,
    run: Run | None = ...,
    evidence: Level = ...,
    **params: Any,
) -> Any: ...
def explain(
    net: Model | nn.Module,
    image: Scan | Sequence[Scan],
    target: Any = None,
    *,
    method: Method[Any] | str = "integrated_gradients",
    site: str | Sequence[str] | None = None,
    run: Run | None = None,
    evidence: Level = "none",
    **params: Any,
) -> Any:
    """Why this network gives this target for this image, seen at this site, by this method.

    Args:
        net: a Model, or a bare network.
        image: an Image, a tensor (c, *space), a path; or a list of them.
        target: class name or index (its logit), a Target, a callable of the output, None (the predicted class), an Ask; or a list of them.
        method: a Method or its name or text; ``params`` bind its parameters.
        site: ``"layer4"``, ``"relu#2"``, ``"encoder[0]"``, ``"auto"``, or a list; None: where the method looks by default; ``"all"``: every
            site with spatial extent, in the order in which the network passes them.
        run: seed, chunk, memory, progress, cancel.
        evidence: none, quick, standard or full: what is checked of each map, see ``examine``.

    Returns:
        A Map; for a list of images, targets or sites a list of Maps in that order (images outermost, then targets, then sites).
        Lists share their chunks; targets of one image share their passes, and so do the sites of a class activation map.

    Raises:
        PellucidError: with what was asked, what was got, and the way out. Nothing of the caller's is changed, whatever happens.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    >>> _ = net(torch.zeros(1, 1, 8, 8))
    >>> explain(net, torch.rand(1, 8, 8), target=0, method="saliency").values.shape
    torch.Size([1, 8, 8])
    """
    model, run = as_model(net), run or Run()
    scans = [as_image(i) for i in (image if isinstance(image, (list, tuple)) else [image])]
    targets: Sequence[Any] = target if isinstance(target, (list, tuple)) else [target]
    sites: Sequence[Any] = site if isinstance(site, (list, tuple)) else [site]
    asks = [_as_ask(t, method, s, params) for t in targets for s in sites]
    if evidence not in get_args(Level):
        raise BadParameter("a level of evidence is none, quick, standard or full", repr(evidence), "Choose one of them.")
    maps = explain_all(model, scans, asks, run)
    if evidence != "none":
        maps = [m.with_evidence(examine(model, m.image, m, evidence, run=run)) for m in maps]
    several = any(a.site == "all" for a in asks) or any(isinstance(v, (list, tuple)) for v in (image, target, site))
    return maps if several else maps[0]


def _as_ask(target: Any, method: Method[Any] | str, site: str | None, params: dict[str, Any]) -> Ask:
    if isinstance(target, Ask):
        return target
    return Ask(read_method(method)(**params), as_target(target), site)
