"""The figures of docs/why.md, each drawn from runs on phantoms: python studies/figures.py [saturation extrema scales bands process].

Every number in the text comes from the run that drew the figure.
"""

from __future__ import annotations

import argparse
import io
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image as Picture

import pellucid as pl
from pellucid import phantoms
from pellucid.io.picture import BLUE_ORANGE, colored, gray_of, top_of
from pellucid.loading import load_model
from pellucid.ops.blur import gaussian

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from studies.pages import put, stamp  # noqa: E402

SEED = 900_000  # no network was trained on phantoms of this seed
INK, FAINT = "#1b2430", "#6b7684"
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#56B4E9")  # after Okabe and Ito: told apart by color-blind eyes
FOR, AGAINST = "#D65F16", "#2E62BE"  # as in maps
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (9, 2)))
VIOLIN = {"violin": 1, "music": 1}  # a violin over an accompaniment
MOST = 80_000  # bytes of a figure
HEAD = """# Why these methods look as they do

Pictures of what the methods do, drawn from the phantoms and their small networks by `studies/figures.py`: a synthetic patient, a trained
network, and the first cases of their kind from seeds that no training has used; settings were chosen so that pictures read well. In maps
orange raises the score and blue lowers it."""


def plots():
    """Matplotlib, set up for figures on a white page."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    style = {"font.size": 9, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": FAINT, "ytick.color": FAINT}
    pyplot.rcParams.update(
        style | {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 9, "axes.titlelocation": "left"}
    )
    return pyplot


def keep(figure, path):
    """Write a figure as PNG, as large as fits into ``MOST`` bytes, in 256 colors among which the rare ones (those of maps) stay."""
    for dpi in (100, 90, 80):
        raw, file = io.BytesIO(), io.BytesIO()
        figure.savefig(raw, dpi=dpi, facecolor="white")
        figure.set_layout_engine("none")  # found once
        picture = Picture.open(raw).convert("RGB").quantize(256, method=Picture.Quantize.MAXCOVERAGE, kmeans=1, dither=Picture.Dither.NONE)
        picture.save(file, "PNG", optimize=True)
        if file.tell() <= MOST:
            break
    plots().close(figure)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.getvalue())


def cases(kind, label, n):
    """The first ``n`` unseen phantoms of a kind whose labels say so."""
    return list(itertools.islice((c for c in phantoms.cases(kind, 60 * n, SEED) if all(c.labels[k] == v for k, v in label.items())), n))


def over(image, values, top=None, light=1.0):
    """A map over its gray image (darkened by ``light``), (rows, columns, 3) in 0 to 255."""
    flat = values.double().sum(0).numpy() if values.ndim == 3 else values.double().numpy()
    return np.clip(colored(light * gray_of(image, flat.shape), flat, top or top_of(flat), BLUE_ORANGE), 0, 255).astype(np.uint8)


def photo(axes, picture, title=""):
    """A picture without ticks."""
    axes.imshow(picture, interpolation="nearest", aspect="equal")
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)


# ---------------------------------------------------------------------------------------------------- why an integral
def saturation(folder, steps=128):
    """Score, slope and sum along the path of intensity; the image and the gradient at each alpha."""
    plt = plots()
    case, net = cases("fundus_dme", {"dme": 1}, 1)[0], load_model("phantom:fundus_dme")
    x = case.image.values
    why = pl.explain(net, case.image, target=pl.probability("DME"), method=pl.integrated_gradients(steps=steps, keep=True))
    t = why.trace
    alphas, scores = np.array(t["alphas"]), np.array(t["scores"])
    slope = np.array([float((g.double() * x).sum()) for g in t["gradients"]])
    parts = slope * np.array(t["weights"])
    so_far = np.cumsum(parts) - parts / 2  # a node stands in the middle of its part of the path

    figure = plt.figure(figsize=(8.6, 4.6), layout="constrained")
    rows = figure.subfigures(2, 1, height_ratios=(1.15, 2))
    axes = rows[0].subplots(1, 2)
    axes[0].plot(alphas, scores, color=COLORS[0], lw=2)
    axes[0].plot(alphas, so_far + scores[0], color=INK, lw=1.2, ls=":")
    axes[0].annotate("probability of DME (blue)", (0.57, 0.38), color=COLORS[0], ha="left")
    axes[0].annotate("sum of the map so far (dotted)", (0.0, 0.72), fontsize=8)
    axes[1].plot(alphas, slope, color=COLORS[1], lw=2)
    axes[1].plot(alphas[-1:], slope[-1:], "o", color=COLORS[1])
    axes[1].annotate(f"at the image: {slope[-1]:.2f}", (1.0, slope[-1]), (0.99, 0.85 * slope.max()), ha="right",
                     arrowprops={"arrowstyle": "-", "color": FAINT})  # fmt: skip
    for one, title in zip(axes, ("score along the path", "slope of the score (gradient times image)"), strict=True):
        one.set_xlabel("α: from black (0) to the image (1)", fontsize=8)
        one.set_title(title)
    near = [int(np.abs(alphas - a).argmin()) for a in (0.15, 0.4, 0.5, 0.6, 0.8, 1.0)]
    top = float(np.quantile(np.abs(torch.stack([t["gradients"][k].sum(0) for k in near]).numpy()), 0.999))
    axes = rows[1].subplots(2, len(near) + 1)
    for column, k in enumerate(near):
        photo(axes[0, column], (alphas[k] * x).clamp(0, 1).permute(1, 2, 0).numpy(), f"α = {alphas[k]:.2f}")
        photo(axes[1, column], over(case.image, t["gradients"][k], top, 0.45), f"p = {scores[k]:.2f}")
    photo(axes[0, -1], over(case.image, t["gradients"][-1] * x, light=0.45), "gradient × image")
    photo(axes[1, -1], over(case.image, why.values, light=0.45), "integral (IG)")
    axes[1, 0].set_ylabel("gradient", fontsize=8)
    axes[0, 0].set_ylabel("image", fontsize=8)
    keep(figure, folder / "saturation.png")

    def share(values):
        positive = values.double().sum(0).clamp_min(0)
        return float(positive[case.masks["causal"]].sum() / positive.sum())

    ig, plain = share(why.values), share(t["gradients"][-1] * x)
    text = f"""A network that is sure stays sure when a little is taken away, so its slope at the image itself says next to nothing: here the
probability is {scores[-1]:.2f}, and gradient times image at the image sums to {slope[-1]:.2f}. On the way from a black image the same slope
reaches {slope.max():.1f}, where the network makes up its mind. The integral collects the slope along the whole way: its sum is
{float(why.values.double().sum()):.3f}, the score gained on the way {t["change"]:.3f}.

![Score, slope and gradient maps along the path from black to the image](figures/saturation.png)

Top: the score and its slope. Middle and below: the image at six places of the path and the gradient there, all on one scale; at
the end it has faded. Right, each on its own scale: the last gradient times the image puts {plain:.0%} of its positive relevance on the
lesions, the integral {ig:.0%} ({float(case.masks["causal"].float().mean()):.1%} of the picture is lesion)."""
    return text, {"last": slope[-1], "steepest": slope.max(), "gap": t["gap"], "ig": ig, "gradient": plain}


# ---------------------------------------------------------------------------------------------------- blur makes nothing new
def extrema(signal, least=1e-4):
    """How many inner minima and maxima a signal has; ripples under ``least`` of its range (the kernel's cut tails) do not count."""
    turns, rising, low, high = 0, None, signal[0], signal[0]
    for value in signal[1:]:
        low, high = min(low, value), max(high, value)
        if rising is not False and value < high - least * np.ptp(signal):
            turns, rising, low = turns + (rising is True), False, value
        elif rising is not True and value > low + least * np.ptp(signal):
            turns, rising, high = turns + (rising is False), True, value
    return turns


def extremal(folder, n=65):
    """x^2 + 1 along the path of blur, of intensity from black, and of intensity from noise."""
    plt = plots()
    x = np.linspace(-1, 1, n)
    signal = torch.from_numpy(x**2 + 1)
    noise = torch.rand(n, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2
    sigmas, alphas = n / 2 * np.linspace(0, 1, 9), np.linspace(1, 0, 9)
    ways = {
        "blur": [gaussian(signal[None, None], (0.0, s))[0, 0].numpy() for s in sigmas],
        "intensity from black": [(a * signal).numpy() for a in alphas],
        "intensity from noise": [(a * signal + (1 - a) * noise).numpy() for a in alphas],
    }
    figure, axes = plt.subplots(1, 3, figsize=(8.6, 2.7), sharey=True, layout="constrained")
    shades = plt.get_cmap("cividis")(np.linspace(0.05, 0.85, 9))
    for one, (name, path) in zip(axes, ways.items(), strict=True):
        for shade, curve in reversed(list(zip(shades, path, strict=True))):
            one.plot(x, curve, color=shade, lw=1.6 if curve is path[0] else 1.0)
        one.plot(x, path[0], color=INK, lw=1.8)
        one.set_title(name)
        one.set_xlabel("x")
    axes[0].set_ylabel("x² + 1 (dark) and its path", fontsize=8)
    keep(figure, folder / "extrema.png")
    counts = {name: [extrema(curve) for curve in path[:-1]] for name, path in ways.items()}
    middle = {name: [float(curve[n // 2]) for curve in path] for name, path in ways.items()}
    text = f"""A path from an uninformative image to the scan should only take away. Blur does: along it no minimum or maximum appears that
was not there, and none grows (an axiom of scale space). Intensity does not keep to it: on the way to black the only minimum of x² + 1
falls from {middle["intensity from black"][0]:.0f} to {middle["intensity from black"][-1]:.0f}, so it is deeper on the way than in the signal;
on the way to noise up to {max(counts["intensity from noise"])} extrema appear where there was one.

![x squared plus one along three paths](figures/extrema.png)

Along the blur path the minimum only rises, from {middle["blur"][0]:.2f} to {middle["blur"][-1]:.2f}, and the number of extrema is never
above {max(counts["blur"])}."""
    return text, {"counts": counts, "middle": middle}


# ---------------------------------------------------------------------------------------------------- scores against sigma
def evolve(axes, net, found, unit, log_from, **method):
    """Probabilities of all classes against sigma: a thin line for every sample, a thick one for their mean. Gives the means."""
    classes, every = net.classes, []
    for case in found:
        t = pl.explain(net, case.image, target=method["target"], method=pl.blur_ig(**method["settings"])).trace
        every.append(t["probabilities"])
        for k, color in zip(range(len(classes)), COLORS, strict=False):
            axes.plot(t["sigmas"], [p[k] for p in t["probabilities"]], color=color, lw=0.6, alpha=0.45)
    mean = np.array(every).mean(0)
    for k, name in enumerate(classes):
        axes.plot(t["sigmas"], mean[:, k], color=COLORS[k], ls=DASHES[k], lw=2.2, label=name)
    axes.set_xscale("log")
    axes.set_xlim(log_from, t["sigmas"][-1])
    axes.set_ylim(0, 1)
    ticks = [v for v in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if log_from <= v <= t["sigmas"][-1]]
    axes.set_xticks(ticks, [f"{v:g}" for v in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(f"σ of the blur, {unit}")
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=2.8)
    return np.array(t["sigmas"]), mean


def scales(folder, n=7, steps=40):
    """The scores of all classes along the blur path, for eyes (in mm) and for violin clips (along frequency alone)."""
    plt = plots()
    figure, axes = plt.subplots(1, 2, figsize=(8.6, 2.9), layout="constrained")
    eyes, clips = cases("fundus_dr", {"stage": 4}, n), cases("spectrogram", VIOLIN | {"singing bowl": 0, "sine": 0}, n)
    net = load_model("phantom:fundus_dr")
    settings = {"max_sigma": "1.6mm", "steps": steps}
    _, eye = evolve(axes[0], net, eyes, "mm on the retina", 0.02, target="proliferative", settings=settings)
    axes[0].set_title(f"fundus: {n} eyes with proliferative retinopathy")
    axes[0].set_ylabel("probability")
    sound = load_model("phantom:spectrogram")
    settings = {"max_sigma": "8px", "steps": steps, "axes": 0}
    sigmas, mean = evolve(axes[1], sound, clips, "mel bands (frequency alone)", 0.1, target="violin", settings=settings)
    axes[1].set_title(f"spectrogram: {n} clips of violin over bass")
    keep(figure, folder / "scales.png")
    violin, silence = (mean[:, sound.classes.index(name)] for name in ("violin", "silence"))
    half = float(sigmas[int((violin < 0.5).argmax())])
    ends = net.classes[int(eye[-1].argmax())]
    text = f"""At which scale does a network see what it sees? Blur IG takes detail away from fine to coarse and writes down the scores of
*all* classes on the way. Lengths of scans are millimeters; a spectrogram is blurred along frequency alone, in bands.

![Probabilities of all classes against the width of the blur](figures/scales.png)

Thin lines are samples, thick ones their mean. In the eyes, proliferative retinopathy starts at {eye[0, 4]:.2f} and the path ends in
"{ends}" ({eye[-1].max():.2f}). In the clips, the violin's mean probability falls from {violin[0]:.2f} to under one half at a blur of
{half:.1f} bands, and silence rises from {silence[0]:.2f} to {silence[-1]:.2f}."""
    return text, {"violin": violin.tolist(), "silence": silence.tolist(), "eye": eye.tolist()}


# ---------------------------------------------------------------------------------------------------- music or violin
def bands(folder, n=12, steps=40):
    """The signed sum of Blur IG's contributions per frequency band, over clips with violin and accompaniment, for two targets."""
    plt = plots()
    found, net = cases("spectrogram", VIOLIN, n), load_model("phantom:spectrogram")
    grid = found[0].image.grid
    method = pl.blur_ig(max_sigma="8px", steps=steps, axes=0)
    sums, example = {}, {}
    for target in ("music", "violin"):
        whys = [pl.explain(net, case.image, target=target, method=method) for case in found]
        sums[target], example[target] = np.sum([w.trace["bins"] for w in whys], 0), whys[0]
    figure = plt.figure(figsize=(8.6, 3.3), layout="constrained")
    axes = figure.subplots(1, 4, width_ratios=(1, 1, 1.35, 1.35))
    ticks = list(range(grid.shape[0] - 1, -1, -9))
    for one, (target, total) in zip(axes, sums.items(), strict=False):
        one.barh(range(len(total)), total, height=0.9, color=[FOR if v > 0 else AGAINST for v in total])
        one.axvline(0, color=FAINT, lw=0.8)
        one.invert_yaxis()
        one.set_title(f"why {target}?")
        one.set_xlabel(f"sum over {n} clips (logit)", fontsize=8)
        one.set_yticks(ticks, [grid.axes[0].say(row) for row in ticks], fontsize=7)
    for one, (target, why) in zip(axes[2:], example.items(), strict=True):
        one.imshow(over(why.scan, why.values), aspect="auto", interpolation="nearest")
        one.set_title(f"one clip: {target}")
        one.set_yticks(ticks, [""] * len(ticks))
        seconds = [0, 31, 62, 93]
        one.set_xticks(seconds, [grid.axes[1].say(c) for c in seconds], fontsize=7)
    keep(figure, folder / "bands.png")
    low = np.array([grid.axes[0].at(row) < 400 for row in range(grid.shape[0])])
    share = {target: float(total[low].clip(0).sum() / total.clip(0).sum()) for target, total in sums.items()}
    text = f"""The same {n} clips, in which a violin plays over an accompaniment, asked two questions. What speaks for *music* lies low
({share["music"]:.0%} of the positive sum below 400 Hz, where the bass line is), what speaks for *violin* lies higher
({1 - share["violin"]:.0%} above): the network does not call it music because there is a violin.

![Signed sum of contributions per frequency band for two targets, and one clip](figures/bands.png)

Left: the sum over all clips of what each band contributes as the blur along frequency is taken away (orange for, blue against). Right: the
map of one clip. In these phantoms the label *music* was drawn to rest on the bass line alone, so this is the right answer."""
    return text, {"low": share, "sums": {k: v.tolist() for k, v in sums.items()}}


# ---------------------------------------------------------------------------------------------------- masks at work
def process(folder, samples=500, window="1.6mm", segments="slic(120)"):
    """Occlusion's windows and scores; LIME's samples: how many superpixels were shown, and the score."""
    plt = plots()
    case, net = cases("fundus_dme", {"dme": 1}, 1)[0], load_model("phantom:fundus_dme")
    image, target = case.image, pl.logit("DME") - pl.logit("no DME")
    hidden = pl.explain(net, image, target=target, method=pl.occlusion(window=window))
    lime = pl.explain(net, image, target=target, method=pl.lime(samples=samples, segments=segments))
    t, picture = hidden.trace, image.values.permute(1, 2, 0).numpy()
    corners, edges, scores = np.array(t["corners"]), np.array(t["edges"]), np.array(t["scores"])
    centers = corners + (edges - 1) / 2

    figure = plt.figure(figsize=(8.6, 4.9), layout="constrained")
    axes = figure.subplots(2, 3)
    least = int(scores.argmin())
    covered = picture.copy()
    cut = tuple(slice(c, c + e) for c, e in zip(corners[least], edges, strict=True))
    covered[cut] = 0.0
    photo(axes[0, 0], covered, f"occlusion: one window hidden, score {scores[least]:.1f}")
    photo(axes[0, 1], picture.mean(-1, keepdims=True).repeat(3, -1) * 0.5 + 0.45, "every window's center and score")
    dots = axes[0, 1].scatter(centers[:, 1], centers[:, 0], c=scores, s=11, cmap="cividis", linewidths=0)
    bar = figure.colorbar(dots, ax=axes[0, 1], shrink=0.8, aspect=14)
    bar.set_label("score: DME against no DME", fontsize=7)
    photo(axes[0, 2], over(image, hidden.values), "map: mean fall of the score")

    told = lime.trace
    active, found = np.array(told["active"]), np.array(told["scores"])
    parts = told["segments"]
    key = int(np.abs(told["weights"]).argmax())
    inside = float((parts[case.masks["causal"]] == key).float().mean())
    shown = told["samples"][:, key].bool().numpy()
    for on, color, marker, name in ((True, FOR, "o", "shown"), (False, AGAINST, "x", "hidden")):
        pick = shown == on
        axes[1, 0].scatter(active[pick], found[pick], s=9, color=color, marker=marker, lw=0.7, label=name)
    axes[1, 0].set_xlabel("superpixels shown", fontsize=8)
    axes[1, 0].set_ylabel("score", fontsize=8)
    axes[1, 0].set_title("LIME: every sample's score", fontsize=8)
    axes[1, 0].legend(title="the superpixel of\nlargest weight is", fontsize=7, title_fontsize=7, frameon=False, loc="best")  # fmt: skip
    edge = np.zeros(parts.shape, bool)
    edge[1:] |= np.asarray(parts[1:] != parts[:-1])
    edge[:, 1:] |= np.asarray(parts[:, 1:] != parts[:, :-1])
    photo(axes[1, 1], np.where(edge[..., None], 1.0, picture), "superpixels")
    photo(axes[1, 2], over(image, lime.values), "map: weight of each superpixel")
    keep(figure, folder / "process.png")
    with_key, without = float(found[shown].mean()), float(found[~shown].mean())
    correlation = float(np.corrcoef(active, found)[0, 1])
    text = f"""Methods that hide parts ask many questions of one kind. Occlusion hides one window after another ({len(scores)} here) and notes
the score; the map is how much it fell. LIME hides random superpixels ({len(found)} different samples) and fits a linear model to the scores.

![Occlusion's windows and scores; LIME's samples](figures/process.png)

The score (DME's logit less the other's) hangs on which superpixels are shown more than on how many (correlation with their number
{correlation:+.2f}): with the one of largest weight, which holds {inside:.0%} of the lesions, its mean is {with_key:.2f}, without it
{without:.2f}. The linear model explains {told["fit"]:.0%} of the variance (the trace says so); where that is low, read such a map
with reserve."""
    return text, {"scores": scores.tolist(), "with": with_key, "without": without, "active": active.tolist()}


FIGURES = {
    "saturation": ("Why an integral and not a gradient", saturation),
    "extrema": ("Why blur makes nothing new", extremal),
    "scales": ("At which scale is it seen", scales),
    "bands": ("Music, and not because there is a violin", bands),
    "process": ("What methods that hide parts do", process),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *FIGURES], default=[])
    for name in parser.parse_args().names or FIGURES:
        title, draw = FIGURES[name]
        began = time.perf_counter()
        text, _ = draw(ROOT / "docs" / "figures")
        put("why.md", HEAD, title, f"{text}\n\nMade by {stamp('`studies/figures.py`', time.perf_counter() - began)}")
        print(name, f"{time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
