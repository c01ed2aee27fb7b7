"""A fundus photograph: field of view, optic disc, fovea, vessels; retinopathy by stage, macular edema, and planted parts beside them."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadParameter
from pellucid.grid import Grid
from pellucid.image import Image
from pellucid.phantoms.drawing import (
    Dice,
    Phantom,
    along,
    check_size,
    check_strength,
    ellipse,
    over,
    place,
    soft,
    spots,
    stamp,
    visible,
    window,
)

FIELD_MM = 12.8  # width of the picture on the retina: about 45 degrees of view
RADIUS = 0.47  # of the field of view, in picture widths; the unit of lengths below is this radius
DISC = 0.15  # radius of the optic disc: 1.8 mm across
MACULA = 0.30  # edema lies within one disc diameter of the fovea
KEYS = ("microaneurysms", "hemorrhages", "exudates", "cotton_wool", "new_vessels", "preretinal")
# how many of each a stage shows (international clinical scale: 1 aneurysms only, 2 more, 3 hemorrhages in all quadrants, 4 proliferation)
STAGES = ((0, 0, 0, 0, 0, 0), (9, 0, 0, 0, 0, 0), (9, 7, 8, 0, 0, 0), (16, 24, 12, 5, 0, 0), (12, 12, 8, 2, 3, 1))
COLORS = {
    "microaneurysms": (0.36, 0.04, 0.04),
    "hemorrhages": (0.33, 0.04, 0.04),
    "exudates": (1.0, 0.92, 0.38),
    "cotton_wool": (0.95, 0.83, 0.66),
    "new_vessels": (0.55, 0.05, 0.07),
    "preretinal": (0.38, 0.03, 0.04),
}


class Eye:
    """The healthy eye of one seed: geometry, picture and anatomy, drawn before any switch is looked at."""

    def __init__(self, seed: int, size: int, eye: Literal["left", "right"] | None) -> None:
        dice = Dice("fundus", seed, "eye")
        self.seed, self.size, self.scale = seed, size, RADIUS * size
        right = dice.flip() if eye is None else (dice.flip(), eye == "right")[1]
        self.side = 1.0 if right else -1.0  # a right eye has its disc on the right of the photograph
        self.middle = (size - 1) / 2 + dice.uniform(-0.01, 0.01) * size
        axis = (torch.arange(size) - self.middle) / self.scale
        self.v, self.u = torch.meshgrid(axis, axis, indexing="ij")
        self.r = (self.u**2 + self.v**2).sqrt()
        self.fovea = (dice.uniform(-0.1, 0.1), -self.side * dice.uniform(0.0, 0.18))  # (v, u)
        self.disc = (self.fovea[0] - dice.uniform(0.0, 0.14), self.fovea[1] + self.side * dice.uniform(0.64, 0.74))
        cut = dice.uniform(0.82, 1.3)
        self.field = soft(torch.maximum(self.r - 1, self.v.abs() - cut) * self.scale, 1.5)
        self.disc_distance = ellipse((self.v, self.u), self.disc, (DISC, DISC * dice.uniform(0.84, 0.98)), dice.uniform(-0.3, 0.3))
        self.fovea_distance = ((self.v - self.fovea[0]) ** 2 + (self.u - self.fovea[1]) ** 2).sqrt()
        self.sheen = dice.uniform(-1, 1)  # a healthy macula shines more or less: noise on the signal of edema
        self.vessels = self._vessels(Dice("fundus", seed, "vessels"))
        self.picture = self._retina(Dice("fundus", seed, "retina"))
        self.grain = Dice("fundus", seed, "grain").noise((3, size, size)) * 0.011

    def samples(self, points: Tensor) -> Tensor:
        """Unit coordinates (n, 2) as row and column."""
        return points * self.scale + self.middle

    def _retina(self, dice: Dice) -> Tensor:
        shape = (self.size, self.size)
        dark, light = torch.tensor([0.55, 0.21, 0.06]), torch.tensor([0.88, 0.47, 0.27])
        base = dark + dice.uniform(0, 1) * (light - dark) + torch.tensor([0.0, dice.uniform(-0.03, 0.03), dice.uniform(-0.05, 0.06)])
        toward = dice.uniform(0, 2 * math.pi)
        gradient = dice.uniform(0.0, 0.13) * (self.u * math.cos(toward) + self.v * math.sin(toward))
        light_field = 1.06 - dice.uniform(0.2, 0.42) * self.r**2 + gradient + 0.045 * dice.field(shape, 4)
        texture = 0.020 * dice.field(shape, 22) + 0.014 * dice.field(shape, 44)
        picture = base[:, None, None] * (light_field + texture)
        glow = torch.exp(-((self.disc_distance.clamp_min(0) / 0.16) ** 2)) * dice.uniform(0.1, 0.28)
        picture = over(picture, base * torch.tensor([1.15, 1.25, 1.3]), glow)
        pit = dice.uniform(0.28, 0.48) * torch.exp(-((self.fovea_distance / dice.uniform(0.13, 0.2)) ** 2))
        picture = picture * (1 - pit[None] * torch.tensor([0.8, 1.0, 1.0])[:, None, None])
        shine = 1 + 0.10 * self.sheen * torch.exp(-((self.fovea_distance / 0.25) ** 2))
        picture = picture * shine
        warm = dice.uniform(0, 1)
        rim = torch.tensor([0.98, 0.70 + 0.1 * warm, 0.38 + 0.22 * warm])
        picture = over(picture, rim * (0.8 + 0.2 * float(base[0]) / 0.88), soft(self.disc_distance, 0.055))
        cup = ellipse((self.v, self.u), (self.disc[0], self.disc[1] - self.side * 0.02), (DISC * 0.45, DISC * 0.4))
        picture = over(picture, (1.0, 0.93, 0.74), 0.8 * soft(cup, 0.09))
        for alpha, tint in zip(self.vessels, ((0.72, 0.42, 0.44), (0.86, 0.58, 0.52)), strict=True):  # veins, then arteries
            picture = picture * (1 - alpha * (1 - torch.tensor(tint)[:, None, None]))
        return picture

    def _vessels(self, dice: Dice) -> tuple[Tensor, Tensor]:
        """Opacity of veins and of arteries: a trunk per quadrant, branches, and their branches."""
        kinds = []
        away = ((self.fovea_distance - 0.1) / 0.15).clamp(0, 1)  # no vessels at the fovea
        for width in (0.020, 0.0145):  # veins are wider
            trunks = torch.stack([self._trunk(dice, up, temporal) for up in (-1.0, 1.0) for temporal in (True, False)])
            wide = width * torch.tensor([1.0, 0.7, 1.0, 0.7])[:, None] * torch.linspace(1.0, 0.5, trunks.shape[1])
            twigs, thin = self._branches(dice, trunks, wide, 6, 0.5)
            ends, thinner = self._branches(dice, twigs, thin, 2, 0.28)
            drawn = [along(self.samples(p), r * self.scale, k) for p, r, k in ((trunks, wide, 6), (twigs, thin, 3), (ends, thinner, 2))]
            alpha = spots(self.size, torch.cat([d[0] for d in drawn]), torch.cat([d[1] for d in drawn]), edge=1.3)
            kinds.append(alpha * (0.3 + 0.7 * away))
        return kinds[0], kinds[1]

    def _trunk(self, dice: Dice, up: float, temporal: bool) -> Tensor:
        t = torch.linspace(0, 1, 28)
        start = torch.tensor(self.disc) + torch.tensor([up * 0.02, dice.uniform(-0.03, 0.03)])
        wave = 0.03 * torch.sin(t * dice.uniform(6, 13) + dice.uniform(0, 6)) * t + 0.012 * torch.sin(t * dice.uniform(18, 30)) * t
        if temporal:  # an arcade: up from the disc, then around the macula
            height = dice.uniform(0.42, 0.72)
            rise = height * (1 - torch.exp(-t * dice.uniform(2.6, 6.0))) + dice.uniform(-0.34, 0.12) * t**2
            across = 1.5 * t ** dice.uniform(1.0, 1.4) - dice.uniform(0.0, 0.09) * torch.sin(5 * t)
            return torch.stack([start[0] + up * rise + wave, start[1] - self.side * across + wave], 1)
        angle, curl = dice.uniform(0.5, 1.4), dice.uniform(-0.5, 0.5)
        angles = angle + curl * t
        return torch.stack([start[0] + up * 0.9 * t * angles.sin() + wave, start[1] + self.side * 0.9 * t * angles.cos() - wave], 1)

    @staticmethod
    def _branches(dice: Dice, parents: Tensor, wide: Tensor, each: int, length: float) -> tuple[Tensor, Tensor]:
        """``each`` children per parent path (n, m, 2): paths (n * each, 14, 2) and radii."""
        n, m = parents.shape[:2]
        k = n * each
        row = torch.arange(n).repeat_interleave(each)
        at = dice.uniforms(k, 0.1 * m, 0.9 * m - 1).long().clamp(1, m - 2)
        heading = parents[row, at + 1] - parents[row, at - 1]
        turn = dice.uniforms(k, 0.4, 0.9) * torch.where(dice.uniforms(k, -1, 1) > 0, 1.0, -1.0)
        t = torch.linspace(0, 1, 14)
        bend = (dice.uniforms(k, -1.0, 1.0) - 0.7 * turn)[:, None] * t
        sway = 0.3 * torch.sin(t * dice.uniforms(k, 8, 16)[:, None] + dice.uniforms(k, 0, 6)[:, None])
        angles = torch.atan2(heading[:, 0], heading[:, 1])[:, None] + turn[:, None] + bend + sway
        steps = torch.stack([angles.sin(), angles.cos()], -1) * (length * dice.uniforms(k, 0.5, 1.1) / 14)[:, None, None]
        paths = parents[row, at][:, None] + steps.cumsum(1) - steps[:, :1]
        return paths, (0.66 * wide[row, at])[:, None] * torch.linspace(1.0, 0.5, 14)


class Layout:
    """Where each lesion of one seed would be: all places are drawn, whichever are shown."""

    def __init__(self, eye: Eye) -> None:
        dice = Dice("fundus", eye.seed, "lesions")
        turn, far = dice.uniform(0, 2 * math.pi), dice.uniform(0.05, 0.2)
        self.edema = (eye.fovea[0] + far * math.sin(turn), eye.fovea[1] + far * math.cos(turn))
        self.centers: dict[str, Tensor] = {}
        self.radii: dict[str, Tensor] = {}
        self.phase: dict[str, Tensor] = {}
        sizes = {
            "microaneurysms": (0.015, 0.022), "hemorrhages": (0.024, 0.058), "exudates": (0.014, 0.034),
            "cotton_wool": (0.04, 0.06), "new_vessels": (0.09, 0.13), "preretinal": (0.15, 0.22),
        }  # fmt: skip
        taken: list[tuple[float, float, float]] = [(*eye.disc, DISC + 0.03), (*self.edema, MACULA + 0.02)]
        for name, (low, high) in sizes.items():
            count = max(stage[KEYS.index(name)] for stage in STAGES)
            radii = dice.uniforms(count, low, high)
            if name == "exudates":  # within a disc diameter of the fovea they would be edema
                taken.append((*eye.fovea, MACULA))
            self.centers[name], self.radii[name] = self.free(dice, taken, radii), radii
            taken = [place for place in taken if place != (*eye.fovea, MACULA)]
            self.phase[name] = dice.uniforms(count, 0, 2 * math.pi)
        self.taken = taken
        n = 11
        spread, angle = dice.uniforms(n, 0.0, 1.0).sqrt() * 0.19, dice.uniforms(n, 0, 2 * math.pi)
        self.centers["edema"] = torch.tensor(self.edema) + torch.stack([angle.sin(), angle.cos()], 1) * spread[:, None]
        self.radii["edema"], self.phase["edema"] = dice.uniforms(n, 0.018, 0.042), dice.uniforms(n, 0, 2 * math.pi)
        self.edema_count = dice.integer(6, n)

    @staticmethod
    def free(dice: Dice, taken: list[tuple[float, float, float]], radii: Tensor) -> Tensor:
        """A random place on the retina for each radius, uniform over its area and clear of what is taken: (n, 2).

        Of 24 tries the first that is clear (or the least covered) counts; the places are taken from then on.
        """
        tries = (len(radii), 24)
        r = 0.86 * np.sqrt(torch.rand(tries, generator=dice.generator).numpy())
        angle = 2 * math.pi * torch.rand(tries, generator=dice.generator).numpy()
        v, u = (r * np.sin(angle)).clip(-0.72, 0.72), r * np.cos(angle)
        other = np.array(taken + [(9.0, 9.0, 0.0)] * len(radii))
        for i, radius in enumerate(radii.tolist()):
            gap = np.sqrt((v[i, :, None] - other[:, 0]) ** 2 + (u[i, :, None] - other[:, 1]) ** 2) - other[:, 2]
            room = np.minimum(gap.min(1) - radius - 0.02, 0.92 - radius - r[i])
            best = int(room.argmax()) if room.max() < 0 else int((room >= 0).argmax())
            other[len(taken)] = v[i, best], u[i, best], radius
            taken.append((float(v[i, best]), float(u[i, best]), radius))
        return torch.tensor(taken[len(taken) - len(radii) :])[:, :2]


def _retinopathy(eye: Eye, layout: Layout, stage: int, strength: float) -> dict[str, Tensor]:
    """Opacity of each kind of lesion that the stage shows."""
    found = {}
    for name, count in zip(KEYS, STAGES[stage], strict=True):
        at, radii, phase = (d[name][:count] for d in (layout.centers, layout.radii, layout.phase))
        if name == "new_vessels":
            alpha = _tufts(eye, at, radii, phase)
        elif name == "preretinal" and count:
            below = (eye.v - at[0, 0]) * eye.scale  # a boat: level above, where blood settles
            alpha = spots(eye.size, eye.samples(at), radii * eye.scale) * soft(-below, 2.0)
        else:
            ragged = {"cotton_wool": 0.4, "hemorrhages": 0.42, "exudates": 0.3}.get(name, 0.0)
            edge = {"cotton_wool": 4.5, "microaneurysms": 1.0}.get(name, 1.4)
            alpha = spots(eye.size, eye.samples(at), radii * eye.scale, ragged, phase, edge)
        found[name] = visible(alpha * strength * {"cotton_wool": 0.62, "exudates": 0.9}.get(name, 0.85) * (eye.field > 0))
    return found


def _tufts(eye: Eye, centers: Tensor, radii: Tensor, phase: Tensor) -> Tensor:
    """New vessels: tangles of thin loops."""
    t = torch.linspace(0, 6 * math.pi, 70)
    r = radii[:, None] * (0.55 + 0.45 * torch.sin(3.3 * t + phase[:, None]))
    turn = 1.18 * t + phase[:, None]
    paths = centers[:, None] + torch.stack([r * turn.sin(), 0.8 * r * turn.cos()], -1)
    return spots(eye.size, *along(eye.samples(paths), torch.full((len(paths), 70), 0.0085 * eye.scale), 4), edge=1.1)


def _edema(eye: Eye, layout: Layout, strength: float) -> tuple[Tensor, Tensor]:
    """Opacity of the thickened retina's pale sheen and of its exudates."""
    distance = ((eye.v - layout.edema[0]) ** 2 + (eye.u - layout.edema[1]) ** 2).sqrt()
    k = layout.edema_count
    at, radii, phase = (d["edema"][:k] for d in (layout.centers, layout.radii, layout.phase))
    hard = spots(eye.size, eye.samples(at), radii * eye.scale, 0.3, phase, 1.4)
    return visible(0.30 * strength * window(distance, 0.26)), visible(0.95 * strength * hard)


def _beside(eye: Eye, layout: Layout) -> tuple[Tensor, Tensor, Tensor]:
    """Opacity of shortcut (a stamp in a corner), distractor (drusen-like spots) and suppressor (a lens flare), at full strength."""
    dice = Dice("fundus", eye.seed, "shortcut")
    unit = eye.size / 128
    text = f"{dice.integer(10, 99)}"
    top, left = dice.flip(), dice.flip()
    row, column = (round(dice.uniform(1, 6) * unit) for _ in range(2))
    height, width = round(7 * unit), round(10 * unit)
    token = stamp(eye.size, text, 1.4 * unit, row if top else eye.size - row - height, column if left else eye.size - column - width)
    dice, taken = Dice("fundus", eye.seed, "distractor"), list(layout.taken)
    count = dice.integer(5, 9)
    radii = dice.uniforms(count, 0.02, 0.035)
    at = layout.free(dice, taken, radii + 0.02)
    drusen = spots(eye.size, eye.samples(at), radii * eye.scale, edge=2.6)
    lesions = torch.tensor(layout.taken[1:])  # all but the disc: where a lesion is or would be
    clear, roomy = (
        (spots(eye.size, eye.samples(lesions[:, :2]), (lesions[:, 2] + gap) * eye.scale + 2) == 0) & (eye.field == 1) for gap in (0.03, 0.1)
    )
    drusen = drusen * clear
    clear &= drusen == 0
    row, column = place(Dice("fundus", eye.seed, "suppressor"), roomy & clear if bool((roomy & clear).any()) else clear)
    flare = window(((eye.v - eye.v[row, 0]) ** 2 + (eye.u - eye.u[0, column]) ** 2).sqrt(), 0.1) * clear
    return visible(token), visible(drusen), visible(flare)


def fundus(
    seed: int = 0,
    *,
    size: int = 128,
    stage: int | None = None,
    dme: bool | None = None,
    shortcut: float = False,
    distractor: float = False,
    suppressor: float = False,
    strength: float = 1.0,
    eye: Literal["left", "right"] | None = None,
) -> Phantom:
    """A fundus photograph (3, size, size) in [0, 1] of an eye that the seed draws, with the lesions that are asked for.

    ``stage`` 0..4 is the retinopathy, ``dme`` macular edema (exudates and a pale sheen within a disc diameter of the fovea); the causal
    mask is the edema's where ``dme`` is given, else the retinopathy's. ``shortcut`` is a number stamped into a corner, ``distractor``
    drusen-like pale spots, ``suppressor`` a lens flare whose brightness tells how much the healthy macula shines (noise on the signal of
    edema, never the label); each False, True or a strength from 0 to 1. ``strength`` is the opacity of the lesions. Lengths are in mm on
    the retina. The distances in proportion to the disc follow the usual clinical rules of thumb; the colors follow real photographs.

    Raises:
        BadParameter: a stage, strength, eye or size that does not exist.

    >>> eye = fundus(3, dme=True)
    >>> eye.image.values.shape, eye.labels["dme"], bool(eye.masks["causal"].any())
    (torch.Size([3, 128, 128]), 1, True)
    """
    check_size(size, 48)
    if stage not in (None, 0, 1, 2, 3, 4):
        raise BadParameter("stage is None or 0, 1, 2, 3, 4", repr(stage), "0 is no retinopathy, 4 proliferative.")
    if eye not in (None, "left", "right"):
        raise BadParameter("eye is 'left', 'right' or None (drawn)", repr(eye), "Change the value.")
    given = {"shortcut": shortcut, "distractor": distractor, "suppressor": suppressor, "strength": strength}
    power = {name: check_strength(name, value) for name, value in given.items()}
    drawn = Eye(seed, size, eye)
    layout = Layout(drawn)
    lesions = _retinopathy(drawn, layout, stage or 0, power["strength"])
    sheen, hard = _edema(drawn, layout, power["strength"] if dme else 0.0)
    token, drusen, flare = _beside(drawn, layout)

    picture = over(drawn.picture, (0.93, 0.78, 0.52), drusen * 0.38 * power["distractor"])
    picture = over(picture, (0.80, 0.86, 0.90), flare * (0.22 + 0.12 * drawn.sheen) * power["suppressor"])
    for name in KEYS:
        picture = over(picture, COLORS[name], lesions[name])
    picture = over(over(picture, (0.93, 0.80, 0.50), sheen), (1.0, 0.94, 0.45), hard)
    picture = picture * drawn.field + 0.008
    picture = over(picture, (0.92, 0.95, 0.98), token * power["shortcut"])
    image = Image(
        (picture + drawn.grain * (0.35 + 0.65 * drawn.field)).clamp(0, 1),
        Grid.spaced((size, size), (FIELD_MM / size,) * 2),
        "intensity",
        ("red", "green", "blue"),
        facts={"modality": "phantom fundus", "seed": seed},
    )
    masks = _masks(drawn, lesions, (sheen > 0) | (hard > 0), dme is not None)
    masks |= {name: (a > 0) & (power[name] > 0) for name, a in (("shortcut", token), ("distractor", drusen), ("suppressor", flare))}
    masks["background"] = (drawn.field == 0) & ~masks["shortcut"]
    side = "right" if drawn.side > 0 else "left"
    labels = {"stage": stage or 0, "dme": int(bool(dme)), "right_eye": int(side == "right")}
    parameters = {"seed": seed, "size": size, "stage": stage, "dme": dme, **given, "eye": eye}
    return Phantom(image, masks, labels, parameters, fundus)


def _masks(eye: Eye, lesions: dict[str, Tensor], edema: Tensor, labelled: bool) -> dict[str, Tensor]:
    """Anatomy, lesions by kind, and the causal ones."""
    found = {name: alpha > 0 for name, alpha in lesions.items()}
    retinopathy = torch.stack(list(found.values())).any(0)
    anatomy = {
        "optic_disc": eye.disc_distance < 0,
        "fovea": eye.fovea_distance < 0.06,
        "macula": eye.fovea_distance < MACULA,
        "vessels": (torch.maximum(*eye.vessels) > 0.4) & (eye.field > 0.5),
    }
    return {**anatomy, **found, "retinopathy": retinopathy, "edema": edema, "causal": edema if labelled else retinopathy}
