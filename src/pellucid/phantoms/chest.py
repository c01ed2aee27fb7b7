"""A frontal chest radiograph: ribs, spine, clavicles, lungs, heart, diaphragm; effusion, cardiomegaly, infiltration, and planted parts."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.phantoms.drawing import (
    Dice,
    Phantom,
    along,
    capsules,
    check_size,
    check_strength,
    ellipse,
    place,
    soft,
    spots,
    stamp,
    visible,
    window,
)

FIELD_MM = 320.0  # width of the film
AIR = 0.06  # opacity of air under which a finding in the lung would not show
FINDINGS = ("effusion", "cardiomegaly", "infiltration")


class Thorax:
    """The healthy chest of one seed, drawn before any switch is looked at.

    Lengths are in half widths of the film; ``u`` grows to the right of the film (the patient's left), ``v`` downwards.
    """

    def __init__(self, seed: int, size: int) -> None:
        dice = Dice("chest", seed, "thorax")
        self.seed, self.size = seed, size
        axis = (torch.arange(size) - (size - 1) / 2) / (size / 2)
        v, u = torch.meshgrid(axis, axis, indexing="ij")
        self.v, self.u = v - dice.uniform(-0.04, 0.05), u - dice.uniform(-0.04, 0.04)
        self.side = self.u.abs()
        self.width, self.apex = dice.uniform(0.62, 0.72), dice.uniform(-0.84, -0.74)
        self.dome = {-1: dice.uniform(0.40, 0.50), 1: dice.uniform(0.46, 0.56)}  # the right dome stands higher
        self.base = dice.uniform(-1, 1)  # soft tissue over the lung bases differs: noise on the signal of effusion
        self.lung = self._lungs()
        self.heart = self._heart(dice.uniform(0.40, 0.46))
        self.big_heart = self._heart(dice.uniform(0.60, 0.66))
        self.body = self._body(dice)
        self.bone = self._bones(Dice("chest", seed, "bones"))
        self.vessels = self._markings(Dice("chest", seed, "vessels"))
        self.haze = Dice("chest", seed, "haze").field((size, size), 3)
        self.grain = Dice("chest", seed, "grain").noise((size, size)) * 0.011
        self.gamma, self.dark = dice.uniform(0.85, 1.15), dice.uniform(0.0, 0.06)

    def pixels(self, points: Tensor) -> Tensor:
        """(v, u) points as row and column."""
        shift = torch.stack([self.v[0, 0] + 1 - 1 / self.size, self.u[0, 0] + 1 - 1 / self.size])
        return (points - shift + 1) * (self.size / 2) - 0.5

    def _lungs(self) -> Tensor:
        """Opacity of air over both lungs: thick in the middle of each, thin at its borders."""
        t = ((0.30 - self.v) / (0.30 - self.apex)).clamp(0, 1)
        self.lateral = 0.22 + (self.width - 0.22) * (1 - t**2.4).clamp_min(0) ** 0.55
        medial = 0.10 + 0.11 * t**5
        ahead = torch.where(self.u < 0, self.dome[-1], self.dome[1])
        across = self.side / self.width
        self.floor = ahead + torch.where(across > 0.5, 1.05 * (across - 0.5).clamp_min(0) ** 2, 0.35 * (0.5 - across).clamp_min(0) ** 2)
        inside = soft(medial - self.side, 0.05) * soft(self.side - self.lateral, 0.035) * soft(self.v - self.floor, 0.035)
        rind = ((self.lateral - self.side) / 0.2).clamp(0, 1) ** 0.6  # less air along the chest wall
        top = ((self.v - self.apex) / 0.5).clamp(0, 1) ** 0.5
        return inside * soft(self.apex - self.v, 0.05) * (0.62 + 0.38 * rind) * (0.75 + 0.25 * top)

    def _heart(self, ratio: float) -> Tensor:
        """Opacity of the heart whose width is ``ratio`` of the chest's."""
        half = 1.1 * ratio * self.width
        floor = (self.dome[-1] + self.dome[1]) / 2
        line = ((0.05, floor - 1.9 * half), (0.16 * half, floor - 0.85 * half), (0.62 * half, floor - 0.22 * half))
        left = capsules((self.u, self.v), line, (0.05, 0.50 * half, 0.40 * half))[0]
        right = ellipse((self.u, self.v), (-0.10 * half, floor - 0.42 * half), (0.46 * half, 0.56 * half))
        knob = ellipse((self.u, self.v), (0.10, self.apex + 0.42), (0.085, 0.10))
        return soft(torch.minimum(torch.minimum(left, right), knob), 0.05)

    def _body(self, dice: Dice) -> Tensor:
        """Opacity of the patient: trunk, shoulders and neck before the black of the film."""
        neck, slope = dice.uniform(0.2, 0.26), dice.uniform(0.30, 0.42)
        shoulder = -0.93 + slope * ((self.side - neck).clamp_min(0) / 0.75) ** 1.15
        trunk = 0.90 + 0.25 * (-0.15 - self.v).clamp_min(0) + dice.uniform(0.0, 0.1)
        return torch.maximum(soft(neck - 0.02 - self.side, -0.06), soft(shoulder - self.v, 0.05)) * soft(self.side - trunk, 0.06)

    def _bones(self, dice: Dice) -> Tensor:
        """Brightness that bones add: ribs, spine, clavicles, shoulder blades, heads of the upper arms."""
        ribs = torch.zeros(self.size, self.size)
        gap, tilt = dice.uniform(0.135, 0.155), dice.uniform(0.9, 1.15)
        share = self.side / self.width
        sink, rise = 0.20 * tilt * share**2.2 - 0.06 * (math.pi * share.clamp(max=1)).sin(), 0.42 - 0.34 * share**1.5
        for k in range(9):
            top = self.apex + 0.02 + gap * k
            behind, front = top + sink, top + rise
            for line, width, bright in ((behind, 0.030, 0.11), (front, 0.034, 0.07 if k < 6 else 0.0)):
                distance = (self.v - line).abs()
                edge = soft((distance - width).abs() - 0.008, 0.014)  # the cortex is denser than the marrow
                ribs = torch.maximum(ribs, bright * (0.75 * soft(distance - width, 0.02) + 0.5 * edge))
        ribs = ribs * soft(self.side - self.lateral - 0.03, 0.04) * soft(0.05 - self.side, 0.05) * soft(self.v - 0.8, 0.3)
        disc = 0.5 + 0.5 * torch.cos((self.v - self.apex) * (2 * math.pi / 0.125))
        spine = soft(self.side - 0.075, 0.03) * (0.035 + 0.03 * disc)
        total = torch.maximum(ribs, spine)
        lean = dice.uniform(-0.03, 0.03)
        for s in (-1.0, 1.0):
            t = torch.linspace(0, 1, 20)
            v = self.apex + 0.16 + lean * s - 0.09 * t - 0.035 * torch.sin(t * 5.2)
            path = torch.stack([v, s * (0.07 + 0.56 * t)], 1)
            radii = torch.full((20,), 0.026) + 0.012 * (2 * t - 1) ** 2
            collar = spots(self.size, *along(self.pixels(path)[None], radii[None] * self.size / 2, 5), edge=2.0)
            total = torch.maximum(total, 0.13 * collar)
        head = soft(ellipse((self.side, self.v), (0.84, self.apex + 0.22), (0.10, 0.10)), 0.05)
        blade = soft(ellipse((self.side, self.v), (0.70, self.apex + 0.42), (0.07, 0.26), 0.35), 0.06)
        return torch.maximum(total, 0.14 * torch.maximum(head, 0.45 * blade)) * self.body

    def _markings(self, dice: Dice) -> Tensor:
        """Brightness of the vessels that fan out from the hila."""
        start, paths, radii = 14, [], []
        for s in (-1.0, 1.0):
            for _ in range(start):
                angle, length = dice.uniform(-1.35, 1.45), dice.uniform(0.22, 0.5)
                t = torch.linspace(0, 1, 10)
                bend = angle + dice.uniform(-1.1, 1.1) * t + 0.3 * torch.sin(t * dice.uniform(4, 9))
                steps = torch.stack([bend.sin(), s * bend.cos()], 1) * length / 10
                paths.append(torch.tensor([dice.uniform(-0.14, 0.06), s * dice.uniform(0.14, 0.2)]) + steps.cumsum(0))
                radii.append(dice.uniform(0.006, 0.015) * torch.linspace(1, 0.3, 10))
        lines = spots(self.size, *along(self.pixels(torch.stack(paths)), torch.stack(radii) * self.size / 2, 3), edge=1.4)
        hilum = soft(ellipse((self.side, self.v), (0.15, -0.05), (0.07, 0.15)), 0.12)
        return torch.maximum(0.34 * lines, 0.42 * hilum)


def _effusion(chest: Thorax) -> Tensor:
    """Opacity of fluid that fills one costophrenic angle up to a meniscus."""
    dice = Dice("chest", chest.seed, "effusion")
    side, level, rise = (-1 if dice.flip() else 1), dice.uniform(0.10, 0.36), dice.uniform(0.16, 0.3)
    wall = chest.lateral - side * chest.u
    surface = chest.dome[side] + 0.16 - level - rise * torch.exp(-wall.clamp_min(0) / 0.13) + 0.12 * (0.35 - side * chest.u).clamp_min(0)
    return soft(surface - chest.v, 0.07) * soft(0.06 - side * chest.u, 0.06) * 0.95


def _infiltration(chest: Thorax) -> Tensor:
    """Opacity of one to three patchy clouds in a lung."""
    dice = Dice("chest", chest.seed, "infiltration")
    lung = (chest.lung > 0.5) & (chest.v > chest.apex + 0.25) & (chest.heart < 0.1)
    row, column = place(dice, lung)
    center = (float(chest.v[row, column]), float(chest.u[row, column]))
    cloud = torch.zeros(chest.size, chest.size)
    for _ in range(dice.integer(2, 4)):
        shift, radius = [dice.uniform(-0.1, 0.1) for _ in range(2)], dice.uniform(0.17, 0.26)
        gap = ((chest.v - center[0] - shift[0]) ** 2 + (chest.u - center[1] - shift[1]) ** 2).sqrt()
        cloud = torch.maximum(cloud, window(gap, radius))
    patchy = 0.72 + 0.28 * dice.field((chest.size, chest.size), 26).clamp(-1.5, 1.2)
    return (cloud * patchy * 1.1).clamp(0, 0.9)


def _beside(chest: Thorax, reserved: Tensor) -> tuple[Tensor, Tensor, tuple[int, int]]:
    """Opacity of distractor (electrodes) and suppressor (a button), and the row and column of the letter."""
    reach = 2 * (chest.size // 28) + 1  # an electrode keeps its whole disc clear
    near = F.max_pool2d(reserved[None, None].float(), reach, 1, reach // 2)[0, 0] > 0
    clear = (chest.body > 0.95) & ~near & (chest.v > chest.apex + 0.1)
    dice = Dice("chest", chest.seed, "distractor")
    pads = torch.zeros(chest.size, chest.size)
    for _ in range(dice.integer(1, 3)):
        row, column = place(dice, clear)
        gap = ((chest.v - chest.v[row, 0]) ** 2 + (chest.u - chest.u[0, column]) ** 2).sqrt()
        pads = torch.maximum(pads, torch.maximum(soft((gap - 0.045).abs() - 0.012, 0.02), soft(gap - 0.016, 0.02)))
    dice = Dice("chest", chest.seed, "suppressor")
    row, column = place(dice, clear & (pads == 0))
    gap = ((chest.v - chest.v[row, 0]) ** 2 + (chest.u - chest.u[0, column]) ** 2).sqrt()
    button = soft(gap - 0.05, 0.03) * (pads == 0)
    dice = Dice("chest", chest.seed, "shortcut")
    unit = chest.size / 128
    column = round((dice.uniform(3, 14) if dice.flip() else dice.uniform(106, 118)) * unit)
    return pads * ~reserved, button * ~reserved, (round(dice.uniform(3, 16) * unit), column)


def chest(
    seed: int = 0,
    *,
    size: int = 128,
    effusion: bool | None = None,
    cardiomegaly: bool | None = None,
    infiltration: bool | None = None,
    shortcut: float = False,
    marker: Literal["L", "R"] = "L",
    distractor: float = False,
    suppressor: float = False,
    strength: float = 1.0,
) -> Phantom:
    """A frontal chest film (1, size, size) in [0, 1], bone white, of a patient that the seed draws, with the findings that are asked for.

    ``effusion`` is fluid on one side that blunts the costophrenic angle with a meniscus, ``cardiomegaly`` a heart wider than half the
    chest, ``infiltration`` patchy clouds in one lung; each has its mask, and the causal mask is their union. ``shortcut`` is the letter of
    ``marker`` in an upper corner, ``distractor`` one to three electrodes, ``suppressor`` a button whose brightness tells how dense the soft
    tissue over the lung bases is (noise on the signal of effusion, never the label); each False, True or a strength from 0 to 1.

    Raises:
        BadParameter: a strength, marker or size that does not exist.

    >>> film = chest(5, effusion=True)
    >>> film.labels["effusion"], bool((film.masks["causal"] == film.masks["effusion"]).all())
    (1, True)
    """
    check_size(size, 64)
    if marker not in ("L", "R"):
        raise BadParameter("marker is 'L' or 'R'", repr(marker), "Leave the letter out with shortcut=False.")
    given = {"shortcut": shortcut, "distractor": distractor, "suppressor": suppressor, "strength": strength}
    power = {name: check_strength(name, value) for name, value in given.items()}
    asked = dict(zip(FINDINGS, (effusion, cardiomegaly, infiltration), strict=True))
    drawn = Thorax(seed, size)
    grown = (drawn.big_heart - drawn.heart).clamp_min(0) * (drawn.lung > 0)
    fluid, cloud = (a * (drawn.lung > AIR) for a in (_effusion(drawn), _infiltration(drawn)))
    reserved = (torch.stack([grown, fluid, cloud]) > 0).any(0)
    opacity = {name: visible(a * power["strength"] * bool(asked[name])) for name, a in zip(FINDINGS, (fluid, grown, cloud), strict=True)}
    pads, button, corner = _beside(drawn, reserved)
    letter = visible(stamp(size, marker, 1.7 * size / 128, *corner))
    pads, button = visible(pads * (letter == 0)), visible(button * (letter == 0))

    values = _film(drawn, opacity)
    values = values + (0.97 - values) * pads * 0.75 * power["distractor"]
    values = values + (0.95 - values) * button * (0.45 + 0.3 * drawn.base) * power["suppressor"]
    values = values + (0.98 - values) * letter * power["shortcut"]
    image = Image(
        (values + drawn.grain).clamp(0, 1)[None],
        Grid.spaced((size, size), (FIELD_MM / size,) * 2),
        "intensity",
        ("film",),
        facts={"modality": "phantom chest radiograph", "seed": seed},
    )
    masks = {name: alpha > 0 for name, alpha in opacity.items()}
    masks["causal"] = torch.stack(list(masks.values())).any(0)
    masks |= {"lungs": drawn.lung * (1 - drawn.heart) > 0.3, "heart": torch.maximum(drawn.heart, opacity["cardiomegaly"]) > 0.5}
    masks |= {"bones": drawn.bone > 0.05}
    masks |= {name: (a > 0) & (power[name] > 0) for name, a in (("shortcut", letter), ("distractor", pads), ("suppressor", button))}
    masks["background"] = (drawn.body == 0) & ~torch.stack([masks[k] for k in ("causal", "shortcut", "distractor", "suppressor")]).any(0)
    parameters = {"seed": seed, "size": size, **asked, **given, "marker": marker}
    return Phantom(image, masks, {name: int(bool(v)) for name, v in asked.items()}, parameters, chest)


def _film(chest: Thorax, opacity: dict[str, Tensor]) -> Tensor:
    """Brightness of the film: soft tissue and bone, less the air that is left."""
    heart = chest.heart + opacity["cardiomegaly"]
    air = chest.lung * (1 - 0.92 * heart) * (1 - 0.8 * chest.vessels * (1 - heart))
    air = air * (1 - opacity["effusion"]) * (1 - opacity["infiltration"])
    basal = soft(0.15 - chest.v, 0.6) * (chest.lung > 0)
    air = air * (1 - 0.22 * (0.5 + 0.5 * chest.base) * basal)
    bone = chest.bone * (1 - 0.6 * opacity["effusion"])
    trachea = soft(chest.side - 0.045, 0.03) * soft(chest.v + 0.25, 0.15) * chest.body
    belly = soft(chest.floor - chest.v, 0.2)
    tissue = 0.62 + 0.02 * chest.haze + 0.12 * belly + 0.10 * soft(chest.side - 0.13, 0.14) * (1 - belly)
    tissue = tissue * (0.72 + 0.28 * soft(chest.side - 0.85, 0.5))
    values = chest.body * (tissue - 0.46 * air - 0.07 * trachea + bone) + chest.dark
    return values.clamp(0, 1) ** chest.gamma
