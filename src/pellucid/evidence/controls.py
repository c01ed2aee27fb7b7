"""Controls: maps that know nothing of the network, or of what it learned; every table holds them beside the maps."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.evidence.panel import Draws, Entry, Panel
from pellucid.grid import Grid
from pellucid.model import Model
from pellucid.ops.blur import gaussian
from pellucid.ops.edges import sobel

WIDE = 1 / 4  # of each side: width of the Gaussian in the middle
SOFT = 1 / 16  # of the shortest side: width of the blur of a map
CONTROLS = ("random", "center", "edges", "blurred", "shuffled")


def random_map(x: Tensor, chance: torch.Generator) -> Tensor:
    """Independent uniform values from 0 to 1, (*space)."""
    return torch.rand(x.shape[1:], generator=chance, dtype=torch.float64)


def center(x: Tensor, chance: torch.Generator) -> Tensor:
    """A Gaussian in the middle of the image, a quarter of each side wide."""
    total = torch.zeros(x.shape[1:], dtype=torch.float64)
    for axis, n in enumerate(x.shape[1:]):
        along = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / (WIDE * n)
        total = total + (along**2).view([-1 if a == axis else 1 for a in range(x.ndim - 1)])
    return torch.exp(-total / 2)


def edges(x: Tensor, chance: torch.Generator) -> Tensor:
    """The image's own edges (Adebayo et al. 2018, figure 1)."""
    return sobel(x)


WITHOUT_NETWORK: dict[str, Draws] = {"random": random_map, "center": center, "edges": edges}


def _drawn(draws: Draws, model: Model, x: Tensor, chance: torch.Generator) -> Tensor:
    """From the image with its channels in one unit."""
    return draws(model.comparable(x), chance)


def add(panel: Panel, wanted: tuple[str, ...] = CONTROLS) -> None:
    """Put controls beside the maps of a panel: ``random``, ``center`` and ``edges`` once; of each map ``blurred`` copies and ``shuffled``, the map
    of the same question for a copy of the network whose weights are shuffled.

    Raises:
        BadParameter: a control that does not exist.
    """
    from pellucid.evidence.sanity.shuffling import Shuffler, parameterless

    unknown = set(wanted) - set(CONTROLS)
    if unknown:
        raise BadParameter(f"controls are of {', '.join(CONTROLS)}", ", ".join(sorted(unknown)), "Choose among them.")
    maps = {n: e for n, e in panel.entries.items() if not e.control}
    for name in [c for c in CONTROLS if c in wanted and c in WITHOUT_NETWORK]:
        draws = partial(_drawn, WITHOUT_NETWORK[name], panel.model)
        panel.entries[name] = Entry(
            draws(panel.x.cpu(), panel.chance(f"control {name} {panel.image.fingerprint}")), draws=draws, control=True
        )
    if "blurred" in wanted:
        for name, e in maps.items():
            after = partial(soften, grid=panel.grid) if e.ask is not None else None
            panel.entries[f"{name}, blurred"] = Entry(soften(e.relevance, panel.grid), control=True, of=name, after=after)
    asked = [n for n, e in maps.items() if e.ask is not None]
    if "shuffled" in wanted and asked and not parameterless(panel.model.module):
        shuffler = Shuffler.of(panel.model, panel.x)
        twin = shuffler.shuffle(shuffler.blocks, panel.chance("control shuffled"))
        for name, found in panel.anew(asked, [panel.x], model=twin).items():
            panel.entries[f"{name}, shuffled"] = Entry(found[0], control=True, of=name)


def soften(relevance: Tensor, grid: Grid) -> Tensor:
    """The map (*space) blurred by a sixteenth of the image's shortest side: it knows nothing that the map does not know."""
    width = SOFT * min(n * s for n, s in zip(grid.shape, grid.spacing, strict=True))
    return gaussian(relevance[None], [width / s for s in grid.spacing])[0]
