"""A T1-weighted brain volume: gyri, ventricles, deep gray matter, hippocampi, cerebellum; atrophy, and planted parts beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid, as_affine
from pellucid.image import Image
from pellucid.phantoms.drawing import Dice, Phantom, capsules, check_size, check_strength, ellipse, over, place, soft, visible, window

EXTENT_MM = 192.0  # edge of the cube that is scanned
FLUID, GRAY, WHITE = 0.20, 0.50, 0.78  # T1 brightness
# center lines in mm (x right, y anterior, z superior; mirrored for the left), after the proportions of adult atlases
LATERAL = ((7, 32, 10), (8, 14, 19), (10, -12, 22), (21, -36, 14), (25, -54, 8))
LATERAL_RADII = (4.5, 5.0, 5.0, 5.5, 2.5)
TEMPORAL_HORN = ((21, -36, 14), (33, -28, -8), (32, -6, -21))
HIPPOCAMPUS = ((25, -36, -4), (28, -24, -13), (26, -8, -20))


class Head:
    """The healthy head of one seed, drawn before any switch is looked at. Lengths in mm, world centered on the brain."""

    def __init__(self, seed: int, shape: tuple[int, ...]) -> None:
        dice = Dice("brain", seed, "head")
        self.seed, self.shape = seed, shape
        self.spacing = tuple(EXTENT_MM / n for n in shape)
        self.blur = 1.25 * max(self.spacing)  # a border voxel holds both tissues
        self.size = dice.uniform(0.93, 1.05)
        axes = [(torch.arange(n) - (n - 1) / 2) * (EXTENT_MM / n) for n in shape]
        x, y, z = torch.meshgrid(-axes[0], axes[1], axes[2], indexing="ij")  # the first axis grows to the patient's left
        shift = [dice.uniform(-4, 4) for _ in range(3)]
        self.at = tuple((a - s) / self.size for a, s in zip((x, y, z - 2), shift))
        self.half = (self.at[0].abs(), self.at[1], self.at[2])
        self.age = dice.uniform(-1, 1)  # healthy ventricles differ: noise on the signal of atrophy
        tilt = [math.radians(dice.uniform(-8, 8)) for _ in range(3)]
        self.grid = _oblique(shape, self.spacing, tilt, [dice.uniform(-15, 15) for _ in range(3)])
        self._tissues(Dice("brain", seed, "folds"))
        self.bias = 1 + 0.05 * Dice("brain", seed, "bias").field(shape, 2)
        self.grain = Dice("brain", seed, "grain").noise((2, *shape)) * 0.016

    def _tissues(self, dice: Dice) -> None:
        x, y, z = self.half
        narrow = 1 - 0.13 * (y.clamp_min(0) / 84) ** 2
        upper = ellipse((x / narrow, y, z), (0, 0, 8), (66, 84, 58))
        upper = torch.maximum(upper, -14 - z - 0.25 * (20 - y).clamp_min(0) - 0.1 * y.clamp_min(0))
        temporal = ellipse((x, y, z), (43, -2, -22), (21, 42, 20))
        cerebrum = torch.minimum(upper, temporal)
        cerebellum = ellipse((x, y, z), (15, -52, -33), (38, 34, 25))
        stem = capsules((x, y, z), ((0, -16, -8), (0, -22, -26), (0, -36, -72)), (17, 15, 10))[0]
        self.inside = soft(torch.minimum(torch.minimum(cerebrum, cerebellum), stem), self.blur)
        depth = -cerebrum
        folds = 0.8 * dice.field(self.shape, 17) + 0.6 * dice.field(self.shape, 25)
        callosum = ellipse((y, z), (-4, 6), (46, 25))
        middle = torch.exp(-((x / 4.5) ** 2)) * soft(4 - callosum, 8) * (z > -16)
        surface = torch.minimum(depth, x + 2.5 + 40 * (1 - soft(4 - callosum, 8)))  # to the outside or to the fissure between the halves
        groove = torch.exp(-((folds / 0.6) ** 2)) * soft(surface - 21, 18)
        gray = soft(surface - 6.5 - 18 * groove, self.blur)
        fluid = (0.75 * torch.exp(-((folds / 0.17) ** 2)) * soft(surface - 15, 10) + 0.4 * soft(depth - 1.5, 5)).clamp(max=1)
        fluid = torch.maximum(fluid, 0.6 * middle * torch.exp(-((x / 2.5) ** 2)))
        deep = [
            ellipse(self.half, (11, -14, 7), (9, 14, 10)),
            ellipse(self.half, (14, 16, 12), (5, 11, 9)),
            ellipse(self.half, (26, 3, 3), (6, 16, 10)),
            ellipse(self.half, (22, -2, -21), (8, 7, 7)),
        ]
        gray = torch.maximum(gray, 0.8 * soft(torch.stack(deep).amin(0), self.blur))
        own = (cerebellum < 0) & (cerebrum > 0)
        folia = 0.55 + 0.3 * torch.sin(2 * math.pi * (z + 38 + 0.3 * (y + 52)) / 11)
        gray = torch.where(own, soft(-cerebellum - 14, 10) * folia + 0.15, gray)
        gray = torch.where((stem < 0) & (cerebrum > -10) & ~own, 0.3, gray)
        fluid = torch.where(own | (stem < 0), 0.35 * soft(-cerebellum.minimum(stem) - 1.5, 4) * own, fluid)
        fissure = torch.exp(-(((cerebrum - cerebellum) / 4) ** 2)) * own  # under the tentorium
        self.gray, self.fluid = gray, torch.maximum(fluid, 0.5 * fissure)
        self.cerebrum_depth = depth


def _oblique(shape: Sequence[int], spacing: Sequence[float], tilt: Sequence[float], shift: Sequence[float]) -> Grid:
    """A slightly tilted scan in RAS mm whose first axis grows to the left, as scanners often store it."""
    turn = np.eye(3)
    for axis, angle in enumerate(tilt):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        part = np.eye(3)
        part[[i, j], [i, j]] = math.cos(angle)
        part[i, j], part[j, i] = -math.sin(angle), math.sin(angle)
        turn = turn @ part
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-spacing[0], spacing[1], spacing[2]])
    affine[:3, 3] = np.array(shift) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(tuple(shape), as_affine(affine), "mm")


class Lines:
    """Signed distances to ventricles and hippocampi: healthy, shrunk or widened the most, and with a margin (reserved for them)."""

    def __init__(self, head: Head) -> None:
        wide = [(1 + 0.13 * head.age), (1.95 + 0.13 * head.age), 2.4]
        lateral = capsules(head.half, LATERAL, *[[r * w for r in LATERAL_RADII] for w in wide])
        horn = capsules(head.half, TEMPORAL_HORN, (2.5, 1, 1), (7, 5.5, 5.5), (9, 9, 9))
        third = capsules(head.half, ((0, 4, -4), (0, -24, 2)), (1.6, 1.6), (4.2, 4.2), (8, 8))
        fourth = capsules(head.half, ((0, -34, -28), (0, -40, -42)), (2.5, 2.5))[0]
        memory = capsules(head.half, HIPPOCAMPUS, (4.5, 5.5, 6.5), (2.0, 2.5, 3.0), (11, 11, 11))
        parts = [torch.minimum(torch.minimum(a, b), c) for a, b, c in zip(lateral, horn, third, strict=True)]
        self.ventricles, self.widest = (soft(torch.minimum(p, fourth), head.blur) for p in parts[:2])
        self.hippocampi, self.shrunk = (soft(m, head.blur) for m in memory[:2])
        self.reserved = torch.minimum(parts[2], memory[2]) < 8


def _atrophy(head: Head, lines: Lines, strength: float) -> tuple[Tensor, Tensor, Tensor]:
    """Opacity of ventricles and hippocampi as the patient has them, and where they differ from the healthy ones."""
    dice = Dice("brain", head.seed, "atrophy")
    left, right = dice.uniform(0.75, 1.0), dice.uniform(0.75, 1.0)
    share = strength * torch.where(head.at[0] > 0, right, left)
    healthy, memory = lines.ventricles, lines.hippocampi
    lost = visible(share * (memory - lines.shrunk).clamp_min(0) * (1 - healthy) * (head.inside > 0))
    gained = visible(share * (lines.widest - healthy).clamp_min(0) * head.inside)
    gained = visible(torch.maximum(gained, lost))
    return healthy + gained, memory - lost, (gained > 0) | (lost > 0)


def _beside(head: Head, reserved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Opacity of shortcut (a capsule on the skin), distractor (bright foci) and suppressor (a dark focus), at full strength."""
    free = ~reserved & (head.inside > 0.9)
    deep = free & (head.cerebrum_depth > 8) & (head.cerebrum_depth < 26) & (head.at[2] > -8)  # in and under the cortex
    dice = Dice("brain", head.seed, "distractor")
    foci = torch.zeros(head.shape)
    for _ in range(dice.integer(1, 3)):
        index = place(dice, deep)
        center = [float(a[index]) for a in head.at]
        foci = torch.maximum(foci, soft(ellipse(head.at, center, [dice.uniform(4, 7) for _ in range(3)]), head.blur))
    dice = Dice("brain", head.seed, "suppressor")
    far = deep & (foci == 0)
    index = place(dice, far if bool(far.any()) else deep)
    center = [float(a[index]) for a in head.at]
    distance = ellipse(head.at, center, (6, 6, 6)) + 6
    hole = window(distance, 8.0) * (foci == 0)
    dice = Dice("brain", head.seed, "shortcut")
    side, turn, height = (1 if dice.flip() else -1), dice.uniform(-1.2, 1.2), dice.uniform(-5, 40)
    middle = [max(-84.0, min(84.0, m)) for m in (side * 80 * math.cos(turn), 92 * math.sin(turn), height)]
    pill = soft(ellipse(head.at, middle, (6, 6, 8)), head.blur) * (head.inside == 0)
    return visible(pill), visible(foci * free), visible(hole * free)


def brain(
    seed: int = 0,
    *,
    size: int | Sequence[int] = 48,
    atrophy: bool | None = None,
    shortcut: float = False,
    distractor: float = False,
    suppressor: float = False,
    strength: float = 1.0,
    skull: bool = False,
) -> Phantom:
    """A T1-weighted volume (1, i, j, k) in [0, 1] of a head that the seed draws, 192 mm wide (4 mm voxels at ``size`` 48).

    ``atrophy`` widens the ventricles and shrinks the hippocampi, more on one side than on the other; ``strength`` scales it. ``shortcut``
    is a bright marker capsule beside the head, ``distractor`` one to three bright foci in and under the cortex, ``suppressor`` a focus whose
    darkness tells how wide the healthy ventricles are (noise on the signal of atrophy, never the label); each False, True or a strength
    from 0 to 1. ``skull`` adds scalp and skull, which are stripped otherwise. The grid is slightly tilted, in RAS mm, its first axis
    growing to the left.

    Raises:
        BadParameter: a strength or size that does not exist.

    >>> head = brain(1, atrophy=True)
    >>> head.image.grid.orientation, head.labels["atrophy"]
    ('LAS', 1)
    """
    shape = (size,) * 3 if isinstance(size, int) else tuple(size)
    if len(shape) != 3:
        raise BadParameter("size is one number or three", repr(size), "Give 48 or (48, 56, 48).")
    for n in shape:
        check_size(n, 24)
    given = {"shortcut": shortcut, "distractor": distractor, "suppressor": suppressor, "strength": strength}
    power = {name: check_strength(name, value) for name, value in given.items()}
    head = Head(seed, shape)
    lines = Lines(head)
    fluid, memory, changed = _atrophy(head, lines, power["strength"] if atrophy else 0.0)
    pill, foci, hole = _beside(head, lines.reserved)

    values = over(torch.full((1, *shape), WHITE), [GRAY], head.gray)
    values = over(values, [FLUID], head.fluid)
    values = over(values, [GRAY + 0.03], memory)
    values = over(values, [FLUID - 0.03], fluid)
    values = over(values, [1.0], foci * 0.8 * power["distractor"])
    values = over(values, [FLUID], hole * (0.5 + 0.35 * head.age) * power["suppressor"])
    values = values * head.inside * head.bias
    if skull:
        values = values + _skull(head)
    values = over(values, [0.95], pill * power["shortcut"])
    body = torch.ones(shape) if skull else head.inside.sqrt()  # a stripped scan has no noise outside the brain
    values = ((values + head.grain[0] * body) ** 2 + (head.grain[1] * body) ** 2).sqrt()  # Rician, as magnitudes are
    image = Image(values.clamp(0, 1), head.grid, "intensity", ("T1",), facts={"modality": "phantom T1 MRI", "seed": seed, "sided": True})
    masks = {
        "ventricles": fluid > 0.5,
        "hippocampi": (memory > 0.5) & (fluid < 0.5),
        "gray": (head.gray > 0.5) & (head.fluid < 0.5) & (fluid < 0.5) & (head.inside > 0.5),
        "white": (head.gray < 0.5) & (head.fluid < 0.5) & (fluid < 0.5) & (memory < 0.5) & (head.inside > 0.5),
        "causal": changed,
        "shortcut": (pill > 0) & (power["shortcut"] > 0),
        "distractor": (foci > 0) & (power["distractor"] > 0),
        "suppressor": (hole > 0) & (power["suppressor"] > 0),
    }
    masks["background"] = (head.inside == 0) & (_skull(head)[0] < 0.1 if skull else True) & ~masks["shortcut"]
    parameters = {"seed": seed, "size": size, "atrophy": atrophy, **given, "skull": skull}
    return Phantom(image, masks, {"atrophy": int(bool(atrophy))}, parameters, brain)


def _skull(head: Head) -> Tensor:
    """Scalp (bright fat) around dark bone: (1, *space)."""
    shell = ellipse(head.half, (0, 0, 4), (66, 84, 64)).minimum(capsules(head.half, ((0, 0, -40), (0, -5, -110)), (58, 55))[0])
    scalp = soft((shell - 15).abs() - 4, head.blur)
    marrow = 0.35 * soft((shell - 7.5).abs() - 1, head.blur)
    return (torch.maximum(0.85 * scalp, marrow) * (1 - head.inside))[None]
