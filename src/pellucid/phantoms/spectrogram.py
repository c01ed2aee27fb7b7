"""Log-mel spectrogram phantom: violin, plucked string, singing bowl, sine and accompaniment, each with its own switch and mask."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pellucid.grid import Axis, Grid, mel
from pellucid.image import Image
from pellucid.phantoms.drawing import Dice, Phantom, check_size, check_strength

LOWEST, HIGHEST = 60.0, 8000.0  # Hz, centers of the outer bands
SECONDS = 1.92
DYNAMIC = 60.0  # dB between black and white
FLOOR = -48.0  # dB of the noise
AUDIBLE = 0.5  # energy over the noise's from which a part is in its mask; cut off below, so that a twin differs inside the mask alone
CEILING = 5600.0  # Hz: no source sounds above; the recorder's own marks do
CHIRP = 0.16  # seconds
SOURCES = ("violin", "pluck", "bowl", "sine", "accompaniment")
LABELS = ("music", "violin", "string", "singing bowl", "sine", "silence")


class Recording:
    """The picture's axes and what the seed alone decides: noise, gain, the padded end. Energies are (bands, frames), band 0 the highest."""

    def __init__(self, seed: int, bands: int) -> None:
        self.seed, self.shape = seed, (bands, 3 * bands // 2)
        dice = Dice("spectrogram", seed, "recording")
        top, step = mel(HIGHEST), (mel(HIGHEST) - mel(LOWEST)) / (bands - 1)
        self.axes = (Axis("frequency", "Hz", top, -step, "mel"), Axis("time", "s", 0.0, SECONDS / self.shape[1]))
        self.mel = top - step * torch.arange(bands, dtype=torch.float64)[:, None]
        self.time = SECONDS / self.shape[1] * torch.arange(self.shape[1], dtype=torch.float64)
        self.width = max(0.55 * step, 20.0)  # mel: a pure tone's line
        self.gain = dice.uniform(-3, 3)  # dB: noise on the level of everything
        self.padding = round(self.shape[1] * dice.uniform(0.03, 0.09))
        tilt = (self.mel - self.mel.mean()) / (self.mel[0] - self.mel[-1])
        loudness = FLOOR + dice.uniform(-3, 3) - dice.uniform(0, 10) * tilt
        grain = 1.6 * dice.noise(self.shape).double() + 1.2 * dice.field(self.shape, 5).double()
        self.noise = 10 ** ((loudness + grain) / 10)
        self.sounding = self.time < SECONDS - self.padding * SECONDS / self.shape[1]

    def tone(self, hertz: Tensor | float, decibel: Tensor) -> Tensor:
        """Energy of one partial whose frequency and level (dB) run over the frames; silent above the ceiling."""
        f = torch.as_tensor(hertz, dtype=torch.float64).expand(self.shape[1])
        place = 2595.0 * torch.log10(1 + f / 700.0)
        return torch.exp(-0.5 * ((self.mel - place) / self.width) ** 2) * 10 ** (decibel / 10) * (f < CEILING)

    def struck(self, onset: float, decibel: float, fall: float, rise: float = 0.02) -> Tensor:
        """Level (dB) per frame of a sound struck at ``onset`` seconds that falls by ``fall`` dB a second."""
        since = self.time - onset
        return torch.where(since >= 0, decibel - fall * since - 30 * torch.exp(-since.clamp_min(0) / rise), -200.0)

    def audible(self, energy: Tensor) -> Tensor:
        """The energy with its faint hem cut off, and nothing in the padded end."""
        return torch.where(energy > AUDIBLE * self.noise, energy, 0.0) * self.sounding


def _violin(r: Recording) -> Tensor:
    """One to three bowed notes: vibrato, and bright partials up to the bridge hill (2 to 4 kHz), which no other source has."""
    dice = Dice("spectrogram", r.seed, "violin")
    count = dice.integer(1, 3)
    start = dice.uniform(0.08, 0.7)
    whole, rate, depth = dice.uniform(0.5, 0.8), dice.uniform(5.0, 6.5), dice.uniform(0.02, 0.032)
    phase, total = dice.uniform(0, 6.28), torch.zeros(r.shape, dtype=torch.float64)
    vibrato = 1 + depth * torch.sin(2 * math.pi * rate * r.time + phase)
    for k in range(count):
        pitch, on, off = dice.uniform(392, 740), start + whole * k / count, start + whole * (k + 1) / count
        bow = 40 * ((r.time - on - 0.01).clamp(max=0) / 0.05 + (off - 0.01 - r.time).clamp(max=0) / 0.05)
        for n in range(1, 15):
            hill = 9 * math.exp(-0.5 * ((n * pitch - 3000) / 900) ** 2)
            total += r.tone(n * pitch * vibrato, -13 - 14 * math.log10(n) + hill + bow.clamp_min(-200))
    return total


def _pluck(r: Recording) -> Tensor:
    """Two or three plucked notes: sharp onsets, straight partials, the higher ones gone sooner."""
    dice = Dice("spectrogram", r.seed, "pluck")
    total = torch.zeros(r.shape, dtype=torch.float64)
    for onset in _beats(dice, dice.integer(2, 3), 0.1, 1.4):
        pitch = dice.uniform(300, 560)
        for n in range(1, 6):
            total += r.tone(n * pitch * math.sqrt(1 + 2e-4 * n * n), r.struck(onset, -8 - 16 * math.log10(n), 45 + 22 * n))
    return total


def _bowl(r: Recording) -> Tensor:
    """A struck bowl: three partials in no harmonic ratio, beating, that ring on."""
    dice = Dice("spectrogram", r.seed, "bowl")
    pitch, onset, beat = dice.uniform(330, 620), dice.uniform(0.05, 0.5), dice.uniform(3.0, 5.0)
    total = torch.zeros(r.shape, dtype=torch.float64)
    for n, (ratio, level) in enumerate(((1.0, -8.0), (2.76, -12.0), (5.4, -18.0))):
        swell = 5 * torch.cos(2 * math.pi * beat * (1 + 0.3 * n) * r.time + n)
        total += r.tone(pitch * ratio, r.struck(onset, level, 9 + 6 * n) + swell)
    return total


def _sine(r: Recording) -> Tensor:
    """One pure tone of constant pitch and level."""
    dice = Dice("spectrogram", r.seed, "sine")
    pitch, on = math.exp(dice.uniform(math.log(400), math.log(4500))), dice.uniform(0.0, 0.4)
    off = on + dice.uniform(0.9, 1.4)
    return r.tone(pitch, torch.where((r.time >= on) & (r.time < off), dice.uniform(-14, -6), -200.0))


def _accompaniment(r: Recording) -> Tensor:
    """A bass line in rhythm, below 320 Hz: what makes the clip music."""
    dice = Dice("spectrogram", r.seed, "accompaniment")
    total, count = torch.zeros(r.shape, dtype=torch.float64), dice.integer(4, 6)
    first, gap = dice.uniform(0.02, 0.15), dice.uniform(0.27, 0.32)
    for k in range(count):
        pitch = dice.uniform(70, 130)
        for n, level in ((1, -8.0), (2, -13.0)):
            total += r.tone(n * pitch, r.struck(first + k * gap, level, 90))
    return total


def _beats(dice: Dice, n: int, first: float, last: float) -> list[float]:
    """Onsets in order, spread evenly with some play."""
    gap = (last - first) / n
    return [first + gap * (k + dice.uniform(0, 0.6)) for k in range(n)]


def _birds(r: Recording, taken: Tensor) -> Tensor:
    """Two or three steep chirps at 1.5 to 5 kHz, begun where no source of this seed would sound."""
    dice = Dice("spectrogram", r.seed, "distractor")
    total = torch.zeros(r.shape, dtype=torch.float64)
    for _ in range(dice.integer(2, 3)):
        tries = [(dice.uniform(0.05, 1.5), dice.uniform(1500, 3200)) for _ in range(24)]
        climb = dice.uniform(1.2, 1.5)
        onset, pitch = min(tries, key=lambda t: float(taken[_box(r, t[0], t[1], climb)].float().mean()))
        since = ((r.time - onset) / CHIRP).clamp(0, 1)
        level = torch.where((since > 0) & (since < 1), -10.0, -200.0)
        total += r.tone(pitch * climb**since, level) + r.tone(pitch * climb ** (1 - since), level)
    return total


def _box(r: Recording, onset: float, pitch: float, climb: float) -> tuple[slice, slice]:
    """The bands and frames of a chirp, one more on each side."""
    places = (mel(pitch * climb), mel(pitch), onset, onset + CHIRP)
    top, low, first, last = (int((v - a.first) / a.step) for v, a in zip(places, [r.axes[0]] * 2 + [r.axes[1]] * 2, strict=True))
    return slice(max(0, top - 1), low + 3), slice(max(0, first - 1), last + 3)


def _marks(r: Recording) -> tuple[Tensor, Tensor]:
    """The recorder's own marks above all sources, as energies: a time code (the shortcut) and a test tone (the suppressor)."""
    dice = Dice("spectrogram", r.seed, "shortcut")
    at = (torch.arange(r.shape[1]) / r.shape[1] - dice.uniform(0.05, 0.5)) / 0.35
    dashes = (at >= 0) & (at < 1) & ((at * dice.integer(3, 5)) % 1 < 0.55)
    dice = Dice("spectrogram", r.seed, "suppressor")
    begin = dice.uniform(0.05, 0.7) * SECONDS
    on = (r.time >= begin) & (r.time < begin + 0.2)
    code, test = (torch.where(t, level, -200.0) for t, level in ((dashes, -8.0), (on, -16.0)))
    rows = r.mel > mel(CEILING * 1.06)
    line = [10 ** (code / 10), 10 ** ((test + 2 * r.gain) / 10)]
    near = r.mel > mel(HIGHEST) - 0.09 * (mel(HIGHEST) - mel(LOWEST)) / 2
    return line[0] * near, line[1] * (rows & ~near)


def spectrogram(
    seed: int = 0,
    *,
    size: int = 64,
    violin: bool | None = None,
    pluck: bool | None = None,
    bowl: bool | None = None,
    sine: bool | None = None,
    accompaniment: bool | None = None,
    shortcut: float = False,
    distractor: float = False,
    suppressor: float = False,
    strength: float = 1.0,
) -> Phantom:
    """A log-mel spectrogram (1, size, size * 3 / 2) in [0, 1] of 1.92 s: ``size`` mel bands, the highest on top, -60 to 0 dB.

    Each source that is asked for sounds at a place, pitch and level that the seed draws, and has its mask; the causal mask is their
    union. The labels: ``music`` if there is an accompaniment (a bass line below 320 Hz), whatever else sounds; ``violin``; ``string``
    (violin or pluck; also a mask); ``singing bowl``; ``sine``; ``silence`` if no source sounds (noise, birds and marks may).
    ``shortcut`` is a time code in the top bands, ``distractor`` chirps of birds, ``suppressor`` a test tone whose brightness tells the
    recording's gain (noise on every level, never the label); each False, True or a strength from 0 to 1. ``background`` is the padded end.

    Raises:
        BadParameter: a strength or size that does not exist.

    >>> clip = spectrogram(3, violin=True)
    >>> clip.labels["string"], clip.labels["music"], clip.image.grid.say((63, 0))
    (1, 0, ('60 Hz', '0 s'))
    """
    check_size(size, 32)
    given = {"shortcut": shortcut, "distractor": distractor, "suppressor": suppressor, "strength": strength}
    power = {name: check_strength(name, value) for name, value in given.items()}
    asked = dict(zip(SOURCES, (violin, pluck, bowl, sine, accompaniment), strict=True))
    r = Recording(seed, size)
    full = {name: r.audible(draw(r)) for name, draw in zip(SOURCES, (_violin, _pluck, _bowl, _sine, _accompaniment), strict=True)}
    energy = {name: r.audible(e * _scale(power["strength"]) * bool(asked[name])) for name, e in full.items()}
    sounding = _any(list(energy.values()))
    birds = r.audible(_birds(r, _any(list(full.values()))) * _scale(power["distractor"])) * ~sounding
    code, test = (r.audible(e * _scale(power[name])) for e, name in zip(_marks(r), ("shortcut", "suppressor"), strict=True))
    total = r.noise + sum(energy.values()) + birds + code + test

    values = (1 + (10 * torch.log10(total) + r.gain) / DYNAMIC).clamp(0, 1) * r.sounding
    grid = Grid(r.shape, axes=r.axes)
    image = Image(values.float()[None], grid, "intensity", ("log-mel",), facts={"modality": "phantom spectrogram", "seed": seed})
    masks = {name: e > 0 for name, e in energy.items()}
    masks |= {"causal": sounding, "string": masks["violin"] | masks["pluck"]}
    masks |= {"shortcut": code > 0, "distractor": birds > 0, "suppressor": test > 0, "background": (~r.sounding).expand(r.shape).clone()}
    there = {name: bool(m.any()) for name, m in masks.items()}
    truth = (there["accompaniment"], there["violin"], there["string"], there["bowl"], there["sine"], not there["causal"])
    parameters = {"seed": seed, "size": size, **asked, **given}
    return Phantom(image, masks, {name: int(t) for name, t in zip(LABELS, truth, strict=True)}, parameters, spectrogram)


def _scale(strength: float) -> float:
    """Energy of a part at a strength from 0 to 1: absent at 0, 20 dB down just above."""
    return strength * 10 ** (2 * (strength - 1))


def _any(energies: Sequence[Tensor]) -> Tensor:
    return torch.stack([e > 0 for e in energies]).any(0)
