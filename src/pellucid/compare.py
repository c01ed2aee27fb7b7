"""compare() and crop_and_zoom(): many maps of one scan, by methods, targets, networks, baselines, or parts of the scan."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

from torch import nn

from pellucid.asking import Scan, as_image, explain_all
from pellucid.baseline import read as read_baseline
from pellucid.comparison import Comparison, name_them
from pellucid.errors import BadParameter
from pellucid.evidence import Level, examine
from pellucid.explanation import Map
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.method import Ask, Method, read_method
from pellucid.model import Model, as_model
from pellucid.run import Run
from pellucid.target import as_target

HELD_BY = ("baseline", "fill")  # parameters that take a baseline


def compare(
    net: Model | nn.Module,
    image: Scan,
    methods: Sequence[Method[Any] | Ask | str] | Method[Any] | Ask | str,
    *,
    target: Any = None,
    models: Mapping[str, Model | nn.Module] | Sequence[Model | nn.Module] = (),
    baselines: Sequence[Any] = (),
    site: str | Sequence[str] | None = None,
    run: Run | None = None,
    evidence: Level = "none",
) -> Comparison:
    """Several maps of one scan, to be read side by side: each method for each target, baseline and network.

    Args:
        net: a Model, or a bare network.
        image: an Image, a tensor (c, *space), or a path.
        methods: methods, their names or texts, or whole Asks (which keep their own target and site); or one of them.
        target: as in ``explain``; a list asks for each (why stage 4, why not stage 0). None is the class that ``net`` predicts, settled
            once and asked of every network.
        models: further networks for the same scan, in a list or under names of your own.
        baselines: each is given in turn to every method that starts from a baseline or fills with one; the others are asked once.
        site: as in ``explain``; a list asks at each.
        run: seed, chunk, memory, progress, cancel.
        evidence: what is checked of each map, see ``examine``.

    Returns:
        A Comparison: its maps, ``table()`` with rank correlations, ``figure(path)``.

    Raises:
        PellucidError: as ``explain``; BadParameter where ``baselines`` are given and no method takes one.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(2))
    >>> _ = net(torch.zeros(1, 1, 8, 8))
    >>> found = compare(net, torch.rand(1, 8, 8), ["saliency", "input_x_gradient"], target=0)
    >>> found.labels, found.correlations.shape
    (('saliency', 'input_x_gradient'), torch.Size([2, 2]))
    """
    if evidence not in get_args(Level):
        raise BadParameter("a level of evidence is none, quick, standard or full", repr(evidence), "Choose one of them.")
    run, scan, nets = run or Run(), as_image(image), _named(net, models)
    given = [methods] if isinstance(methods, (Method, Ask, str)) else list(methods)
    targets: Sequence[Any] = target if isinstance(target, (list, tuple)) else [target]
    sites: Sequence[Any] = site if isinstance(site, (list, tuple)) else [site]
    asks = [a for t in targets for s in sites for m in given for a in _asks(m, t, s, baselines)]
    asks = list({repr(a): a for a in asks}.values())  # an Ask of its own is not asked once per target
    if not asks:
        raise BadParameter("at least one method", "none", "Name one: 'integrated_gradients'.")
    if baselines and not any(k in a.method.params for a in asks for k in HELD_BY):
        raise BadParameter("a method that takes a baseline", ", ".join({a.method.name for a in asks}), "Leave baselines= out.")
    maps: list[Map] = []
    for one in nets:
        asks, found = _settled(one, scan, asks, run)
        if evidence != "none":
            found = [m.with_evidence(examine(one, m.image, m, evidence, run=run)) for m in found]
        maps += found
    return Comparison(tuple(maps), name_them(maps), maps[0].image)


def _settled(net: Model, scan: Image, asks: Sequence[Ask], run: Run) -> tuple[list[Ask], list[Map]]:
    """All asks in one go; where the predicted class is wanted, it is found once and told with the asks, for other networks."""
    alike = {repr(a.target): a.target for a in asks}
    asks = [replace(a, target=alike[repr(a.target)]) for a in asks]
    maps = explain_all(net, [scan], asks, run)
    everywhere = sum(a.site == "all" for a in asks)
    sites = (len(maps) - len(asks) + everywhere) // max(everywhere, 1)
    starts = itertools.accumulate((sites if a.site == "all" else 1 for a in asks), initial=0)
    found = [maps[n].ask.target if a.target.open else a.target for n, a in zip(starts, asks, strict=False)]
    return [replace(a, target=t) for a, t in zip(asks, found, strict=True)], maps


def _named(net: Model | nn.Module, others: Mapping[str, Any] | Sequence[Any]) -> list[Model]:
    """All networks, each under a name of its own."""
    if isinstance(others, Mapping):
        return [as_model(net), *(replace(as_model(m), name=name) for name, m in others.items())]
    found = [as_model(m) for m in (net, *others)]
    names = [m.name for m in found]
    return [m if names.count(m.name) == 1 else replace(m, name=f"{m.name} {names[: n + 1].count(m.name)}") for n, m in enumerate(found)]


def _asks(given: Method[Any] | Ask | str, target: Any, site: str | None, baselines: Sequence[Any]) -> list[Ask]:
    if isinstance(given, Ask):
        return [given]
    method, wanted = read_method(given), target.target if isinstance(target, Ask) else as_target(target)
    held = next((k for k in HELD_BY if k in method.params), None)
    bound = [method] if held is None or not baselines else [method(**{held: read_baseline(b)}) for b in baselines]
    return [Ask(m, wanted, site) for m in bound]


def crop_and_zoom(
    net: Model | nn.Module,
    image: Scan,
    target: Any = None,
    *,
    method: Method[Any] | str = "integrated_gradients",
    zooms: Sequence[float] = (1.5, 2.5),
    crops: Sequence[float] = (),
    center: Sequence[float] | None = None,
    site: str | None = None,
    run: Run | None = None,
    **params: Any,
) -> Comparison:
    """Does the answer change when the network sees a part of the scan? Each part is explained, and its map put back in the full frame.

    Args:
        net: a Model, or a bare network.
        image: an Image, a tensor (c, *space), or a path: the full frame.
        target: as in ``explain``; None: the class predicted for the whole, asked of every part.
        method: a Method or its name or text; ``params`` bind its parameters. Lengths in pixels mean those of each part.
        zooms: each a part whose extent is that of the frame over this number, enlarged to the samples of the frame.
        crops: each such a part as it is; the network must take smaller images.
        center: of the parts, a sample (index along each axis); None: the middle. Parts are moved until they lie inside the frame.
        site: where in the network.
        run: seed, chunk, memory, progress, cancel.

    Returns:
        A Comparison of the whole and its parts; correlations count the samples that both show.

    Raises:
        BadParameter: a zoom or crop that is not above 1, or a center outside the frame.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> found = crop_and_zoom(net, torch.rand(1, 8, 8), 1, method="saliency", zooms=[2])
    >>> found.labels, found.maps[1].image.grid.spacing
    (('whole', 'zoom 2'), (0.5, 0.5))
    """
    model, frame, run = as_model(net), as_image(image), run or Run()
    middle = tuple((n - 1) / 2 for n in frame.grid.shape) if center is None else tuple(center)
    if len(middle) != frame.grid.ndim or any(not 0 <= c <= n - 1 for c, n in zip(middle, frame.grid.shape, strict=False)):
        raise BadParameter(f"center is a sample of {frame.grid.shape}", repr(center), "Leave it out for the middle.")
    views, names = [frame], ["whole"]
    for kind, times in [*(("zoom", z) for z in zooms), *(("crop", c) for c in crops)]:
        part = _part(frame.grid, middle, times, kind)
        views.append(frame.on(part.resize(frame.grid.shape) if kind == "zoom" else part))
        names.append(f"{kind} {times:g}")
    ask = Ask(read_method(method)(**params), as_target(target), site)
    (asked,), (whole,) = _settled(model, frame, [ask], run)
    maps = [whole, *(explain_all(model, [v], [asked], run)[0] for v in views[1:])]
    return Comparison(tuple(maps), tuple(names), whole.image, parts=True)


def _part(grid: Grid, center: Sequence[float], times: float, kind: str) -> Grid:
    """The grid's middle part of ``1 / times`` of its extent, around ``center`` but inside."""
    if not times > 1:
        raise BadParameter(f"a {kind} is a number above 1", repr(times), "The whole is explained anyway.")
    long = [max(2, round(n / times)) for n in grid.shape]
    start = [min(max(round(c + 0.5 - m / 2), 0), n - m) for c, m, n in zip(center, long, grid.shape, strict=True)]
    return grid.crop(start, [a + m for a, m in zip(start, long, strict=True)])
