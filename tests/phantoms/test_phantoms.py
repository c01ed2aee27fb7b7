"""Phantoms: twins, seeds, masks, grids, looks that a real picture has."""

from __future__ import annotations

import json
import math
import pickle
from itertools import combinations

import pytest
import torch

from pellucid.errors import BadGrid, BadParameter
from pellucid.grid import Grid
from pellucid.phantoms import Phantom, brain, cases, chest, fundus, spectrogram
from pellucid.phantoms.cohort import KINDS
from pellucid.phantoms.spectrogram import SOURCES

ALONE = ("causal", "shortcut", "distractor", "suppressor", "background")
PARTS = ("shortcut", "distractor", "suppressor")
EVERYTHING = dict.fromkeys(PARTS, 0.8)
FULL = {
    "edema": (fundus, {"dme": True, "stage": 2}),
    "retinopathy": (fundus, {"stage": 4}),
    "chest": (chest, {"effusion": True, "cardiomegaly": True, "infiltration": True}),
    "brain": (brain, {"atrophy": True}),
    "spectrogram": (spectrogram, dict.fromkeys(SOURCES, True)),
}
LARGEST = {"spectrogram": 0.6}  # share of the causal mask where everything is switched on
SWITCHES = [
    *[(fundus, {"dme": True, "stage": 2}, {"dme": False}, "edema"), (fundus, {"dme": True, "stage": 3}, {"stage": 0}, "retinopathy")],
    *[(fundus, {"stage": s}, {"stage": 0}, "causal") for s in (1, 2, 3, 4)],
    *[(chest, FULL["chest"][1], {name: False}, name) for name in FULL["chest"][1]],
    (brain, {"atrophy": True}, {"atrophy": False}, "causal"),
    *[(spectrogram, {name: True, "accompaniment": True}, {name: False}, name) for name in SOURCES],
    *[(maker, parts, {part: False}, part) for maker, parts in FULL.values() for part in PARTS],
]


def differ(a: Phantom, b: Phantom) -> torch.Tensor:
    return (a.image.values != b.image.values).any(0)


@pytest.mark.parametrize(("maker", "parts", "off", "mask"), SWITCHES, ids=lambda v: getattr(v, "__name__", str(v))[:24])
def test_a_twin_differs_inside_the_mask_of_the_switched_part_alone(maker, parts, off, mask):
    on = maker(3, **parts, **EVERYTHING)
    twin = on.twin(**off)
    where = on.masks[mask]
    changed = differ(on, twin)
    assert where.any()
    assert not (changed & ~where).any()
    assert changed.sum() > 0.9 * where.sum()
    assert not twin.masks[mask].any()


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("seed", range(3))
def test_parts_are_there_and_never_overlap(name, seed):
    maker, parts = FULL[name]
    phantom = maker(seed, **parts, **EVERYTHING)
    for key in ALONE:
        assert phantom.masks[key].any(), key
    for a, b in combinations(ALONE, 2):
        assert not (phantom.masks[a] & phantom.masks[b]).any(), (a, b)
    assert all(m.dtype == torch.bool and tuple(m.shape) == phantom.image.grid.shape for m in phantom.masks.values())
    assert 0.001 < phantom.masks["causal"].float().mean() < LARGEST.get(name, 0.15)
    bare = maker(seed)
    assert not any(bare.masks[key].any() for key in ALONE[:4])
    assert bare.masks["background"].any()


@pytest.mark.parametrize("maker", [fundus, chest, brain, spectrogram])
def test_same_seed_same_patient_and_the_global_chance_untouched(maker):
    before = torch.get_rng_state()
    a, b, other = maker(5), maker(5), maker(6)
    assert torch.equal(before, torch.get_rng_state())
    assert a.image.fingerprint == b.image.fingerprint
    assert differ(a, other).float().mean() > 0.1
    assert a.image.values.min() >= 0 and a.image.values.max() <= 1
    assert pickle.loads(pickle.dumps(a)).twin().image.fingerprint == a.image.fingerprint


def test_grids_are_in_millimeters():
    eye, film, head = fundus(0, size=96), chest(0, size=160), brain(0, size=(40, 48, 44))
    assert eye.image.grid.unit == film.image.grid.unit == head.image.grid.unit == "mm"
    assert [round(g.image.grid.shape[0] * g.image.grid.spacing[0], 3) for g in (eye, film)] == [12.8, 320.0]
    assert head.image.grid.orientation == "LAS"
    assert head.image.grid.shape == (40, 48, 44)
    assert [round(s, 3) for s in head.image.grid.spacing] == [4.8, 4.0, round(192 / 44, 3)]
    assert abs(head.image.grid.matrix[0, 1]) > 1e-3  # tilted
    assert eye.image.channels == ("red", "green", "blue")


def test_left_and_right_eyes_have_their_disc_on_their_own_side():
    for seed in range(4):
        at = {side: fundus(seed, eye=side).masks["optic_disc"].nonzero().float().mean(0)[1] for side in ("left", "right")}
        assert at["left"] < 45 < 82 < at["right"]


def test_edema_lies_within_a_disc_diameter_of_the_fovea_and_other_exudates_do_not():
    for seed in range(6):
        eye = fundus(seed, dme=True, stage=3)
        assert (eye.masks["edema"] & eye.masks["macula"]).sum() > 0.5 * eye.masks["edema"].sum()
        assert (eye.masks["exudates"] & eye.masks["macula"]).sum() < 0.1 * eye.masks["exudates"].sum()


def test_atrophy_widens_ventricles_and_shrinks_hippocampi():
    for seed in range(3):
        sick, well = brain(seed, atrophy=True), brain(seed)
        assert sick.masks["ventricles"].sum() > 1.8 * well.masks["ventricles"].sum()
        assert sick.masks["hippocampi"].sum() < 0.6 * well.masks["hippocampi"].sum()
        values = well.image.values[0]
        order = [values[well.masks[m]].mean() for m in ("ventricles", "gray", "white")]  # T1
        assert order[0] < order[1] < order[2]


def test_an_enlarged_heart_is_wider_than_half_the_chest():
    for seed in range(4):
        width = {}
        for big in (False, True):
            film = chest(seed, cardiomegaly=big)
            chest_width = film.masks["lungs"].any(0).nonzero().flatten()
            heart = film.masks["heart"].any(0).nonzero().flatten()
            width[big] = float((heart[-1] - heart[0]) / (chest_width[-1] - chest_width[0]))
        assert width[False] < 0.5 < width[True]


def test_sources_of_a_recording_sound_where_their_names_say():
    clip = spectrogram(2, **dict.fromkeys(SOURCES, True), shortcut=True)
    hertz = {name: [clip.image.grid.axes[0].at(float(r)) for r in mask.any(1).nonzero().flatten()] for name, mask in clip.masks.items()}
    assert max(hertz["accompaniment"]) < 400 < min(hertz["violin"]) + 60
    assert max(hertz["violin"]) > 4000 > max(hertz["pluck"])
    assert min(hertz["shortcut"]) > max(max(hertz[name]) for name in SOURCES)
    frames = {name: clip.masks[name].any(0).nonzero().flatten() for name in SOURCES}
    assert len(frames["bowl"]) > 40  # it rings on
    assert torch.equal(clip.masks["string"], clip.masks["violin"] | clip.masks["pluck"])
    line = spectrogram(2, sine=True).masks["sine"]
    assert line.any(1).sum() < 8


def test_labels_follow_the_sources_and_silence_is_their_absence():
    heard = lambda **on: {name for name, there in spectrogram(4, distractor=True, **on).labels.items() if there}  # noqa: E731
    assert heard() == {"silence"}
    assert heard(violin=True) == {"violin", "string"}
    assert heard(pluck=True, accompaniment=True) == {"string", "music"}
    assert heard(bowl=True, sine=True) == {"singing bowl", "sine"}


def test_axes_of_a_spectrogram_are_hertz_and_seconds_and_its_lengths_are_samples():
    clip = spectrogram(0)
    grid = clip.image.grid
    assert grid.unit == "px"
    assert grid.ends() == (("8000 Hz", "60 Hz"), ("0 s", "1.9 s"))
    part = grid.crop((8, 10), (40, 90)).coarsen((4, 4), (1.5, 1.5), (8, 20))
    assert part.axes == grid.axes
    row, column = part.world((1, 2))[:2]
    assert (row, column) == (13.5, 19.5)
    assert part.say((1, 2)) == (grid.axes[0].say(13.5), "0.39 s")
    assert grid.permute((1, 0)).ends() == grid.ends()[::-1]
    with pytest.raises(BadGrid, match="axes"):
        grid.map_to(Grid(grid.shape))
    with pytest.raises(BadGrid, match="axes go with"):
        Grid((4, 4), unit="mm", axes=grid.axes)
    assert Grid.of_facts(json.loads(json.dumps(part.facts()))) == part


def test_mel_bands_are_evenly_spaced_in_mel():
    axis = spectrogram(0).image.grid.axes[0]
    steps = [2595 * math.log10(1 + axis.at(k) / 700) - 2595 * math.log10(1 + axis.at(k + 1) / 700) for k in range(63)]
    assert max(steps) - min(steps) < 1e-9
    assert axis.at(0) == pytest.approx(8000)
    assert axis.at(63) == pytest.approx(60)


def test_strength_fades_a_lesion_and_zero_is_absence():
    change = [float((fundus(2, dme=True, strength=s).image.values - fundus(2).image.values).abs().sum()) for s in (0.0, 0.4, 0.8)]
    assert change[0] == 0 < change[1] < change[2]
    assert not fundus(2, dme=True, strength=0.0).masks["causal"].any()


def test_the_suppressor_tells_of_the_noise_on_the_signal_and_not_of_the_label():
    glow, macula = [], []
    for seed in range(30):
        with_flare, without = fundus(seed, suppressor=True), fundus(seed)
        mask = with_flare.masks["suppressor"]
        glow.append(float((with_flare.image.values - without.image.values)[2, mask].mean()))
        inner = without.masks["macula"]
        macula.append(float(without.image.values[0, inner].mean() / without.image.values[0, ~without.masks["background"]].mean()))
    assert torch.corrcoef(torch.tensor([glow, macula]))[0, 1] > 0.3


def test_the_test_tone_of_a_recording_tells_its_gain():
    tone, level = [], []
    for seed in range(20):
        clip = spectrogram(seed, sine=True, suppressor=True)
        tone.append(float(clip.image.values[0, clip.masks["suppressor"]].mean()))
        quiet = ~clip.masks["causal"] & ~clip.masks["background"] & ~clip.masks["suppressor"]
        level.append(float(clip.image.values[0, quiet].mean()))
    assert torch.corrcoef(torch.tensor([tone, level]))[0, 1] > 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_cases_are_balanced_and_their_parts_know_nothing_of_the_label(kind):
    n = 40 if kind != "brain_atrophy" else 12
    found = list(cases(kind, n, seed=7, size=64 if kind != "brain_atrophy" else 24))
    key = {"fundus_dme": "dme", "fundus_dr": "stage", "chest": "effusion", "brain_atrophy": "atrophy", "spectrogram": "violin"}[kind]
    labels = [case.labels[key] for case in found]
    assert len({labels.count(v) for v in set(labels)}) == 1
    again = next(cases(kind, 1, seed=7, size=64 if kind != "brain_atrophy" else 24))
    assert again.image.fingerprint == found[0].image.fingerprint
    assert len({case.parameters["seed"] for case in found}) == n
    if kind == "fundus_dme":
        tied = list(cases(kind, 12, seed=7, size=48, confounding=1.0))
        assert [case.masks["shortcut"].any() for case in tied] == [bool(case.labels["dme"]) for case in tied]


@pytest.mark.parametrize(
    "call",
    [
        lambda: fundus(stage=5),
        lambda: fundus(eye="middle"),
        lambda: fundus(shortcut=2.0),
        lambda: chest(marker="X"),
        lambda: brain(size=8),
        lambda: brain(size=(48, 48)),
        lambda: next(cases("knee", 1)),
        lambda: spectrogram(size=8),
    ],
)
def test_what_does_not_exist_is_refused_in_one_line(call):
    with pytest.raises(BadParameter) as error:
        call()
    assert "\n" not in str(error.value)
