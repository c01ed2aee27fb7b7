"""Power and false alarms of the shortcut detectors on networks whose behavior is known: python studies/shortcuts.py -> docs/shortcuts.md

Networks come from studies/family.py (those that are trained by now; none is trained here but two that read what cannot be seen). Limits are chosen
on the tuning networks (residual, seed 0) alone. What each network gave is kept in out/shortcuts; a network is asked once for each state of the code.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import family
import family_nets as own
from studies.figures import COLORS, FAINT, INK, keep, plots
from studies.inside import enrichment
from studies.pages import ROOT, put, stamp
from verdict import wilson

import pellucid as pl
from pellucid.errors import Unsupported
from pellucid.evidence.shortcuts.confounder_sensitivity import correlation
from pellucid.ops.blur import gaussian
from pellucid.source import code_hash

CACHE = ROOT / "out" / "shortcuts"
SEED, COUNT = 79, 64  # phantoms that the family has not seen; half of them have the finding
PAIRS = 10
METHODS = {
    "integrated gradients": "integrated_gradients(steps=16)",
    "Grad-CAM": "grad_cam()",
    "LRP": "lrp()",
    "occlusion": "occlusion(window='8px', stride='8px')",
}
ALPHA = 0.05
CLASSES = {"fundus_dme": ("no DME", "DME"), "chest": ("no effusion", "effusion")}
UNSEEN = {"blur": "blurred by 0.7 samples", "noise": "noise of standard deviation 0.02 added"}


# ------------------------------------------------------------------ the networks and what they are shown
def present():
    """Members of the family that are trained and measured."""
    path = family.CACHE / "members.pt"
    return [family.Member(**m) for m in torch.load(path).values()] if path.exists() else []


@cache
def cohort(kind):
    """Phantoms whose shortcut is a coin of its own."""
    return list(family.phantoms_of(kind, COUNT, SEED))


@cache
def material(kind):
    """Positives (with the shortcut by a coin), negatives without it, and negatives in pairs without and with it."""
    label = own.LABEL[kind]
    sick = [p for p in cohort(kind) if p.labels[label]]
    well = [p for p in cohort(kind) if not p.labels[label]]
    without, planted = [p.twin(shortcut=0.0) for p in well[:PAIRS]], [p.twin(shortcut=0.8) for p in well[:PAIRS]]
    return sick, without, planted


def uses(m):
    """By intervention alone: a network that follows nothing but the mark is at chance for the finding, and uses it all the same."""
    return m.shortcut > family.MOVES


def has(p):
    return bool(p.masks["shortcut"].any())


# ------------------------------------------------------------------ what is measured of a network
def measured(member):
    """The detectors' statistics by method."""
    sick, without, planted = material(member.kind)
    net = pl.Model(member.net(), classes=CLASSES[member.kind])
    found = {}
    for name, method in METHODS.items():
        try:
            found[name] = by_method(net, pl.read_method(method), sick, without, planted)
        except Unsupported as error:
            found[name] = {"refused": str(error)}
    return found


def by_method(net, method, sick, without, planted):
    """The statistics of one method's maps."""
    maps = pl.explain(net, [p.image for p in sick], 1, method=method)
    rich = [enrichment(m.on(m.image.grid).relevance, p.masks["shortcut"]) for m, p in zip(maps, sick, strict=True) if has(p)]
    marks = [p.masks["shortcut"] for p in planted]
    pairs = pl.confounder_sensitivity(net, [p.image for p in without], [p.image for p in planted], marks, method, target=1, counted="moves")
    row = {"enrichment": float(np.nanmean(rich)) if not np.isnan(rich).all() else 1.0, "flips": len(pairs.counted)}
    row |= {"sensitivity": _value(pairs, method, "confounder_sensitivity"), "ncc": _value(pairs, method, "map_ncc")}
    return row | hunted(net, maps, sick, without)


def _value(pairs, method, name):
    value = pairs[method.name, name].value
    return None if math.isnan(value) else value


def hunted(net, maps, sick, without):
    """What a person without the answer would do: clusters, the one that goes with the mark, its region, and an intervention on it."""
    marked = ["stamped" if has(p) else "plain" for p in sick]
    try:
        clusters = pl.spray(maps, metadata={"mark": marked}, permutations=999, bootstraps=3)
    except pl.PellucidError:  # too many empty maps
        return {"p": 1.0, "suspects": 0, "clusters": 0, "word": "no cluster"}
    own_p = [a.holm for a in clusters.associations]
    row = {"p": min(own_p, default=1.0), "clusters": len(clusters.clusters)}
    row["suspects"] = sum(any("one place" in r for r in c.reasons) for c in clusters)
    linked = [a for a in clusters.associations if a.value == "stamped" and a.holm < ALPHA]
    if not linked:
        return row | {"word": "no cluster"}
    region = clusters.region(min(linked, key=lambda a: a.holm).cluster)
    shown = [sick[i].image for i in clusters.clusters[min(linked, key=lambda a: a.holm).cluster].members if has(sick[i])]
    inside = [bool((region & p.masks["shortcut"]).any()) for p in sick if has(p)]
    tried = pl.intervene(net, shown, region, target=1, negatives=[p.image for p in without])
    return row | {
        "word": tried.word,
        "meets": float(np.mean(inside)),
        "removal": tried["removal"].value,
        "addition": tried["addition"].value,
    }


def results(seconds):
    """All that is known, member by member; new ones while there is time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    key = code_hash("evidence/shortcuts")[:12]
    found = {}
    for member in present():
        path = CACHE / f"{member.name.replace(' ', '-')}-{key}.json"
        if not path.exists() and time.process_time() < seconds:
            began = time.process_time()
            path.write_text(json.dumps(measured(member)))
            print(member.name, f"{time.process_time() - began:.1f} s", flush=True)
        if path.exists():
            found[member] = json.loads(path.read_text())
    return found


# ------------------------------------------------------------------ detectors: a number for each network, higher means alarm
DETECTORS = {
    "mass on the mark": lambda r: r["enrichment"],
    "SpRAy + metadata": lambda r: -math.log10(r["p"]),
    "confounder sensitivity": lambda r: r["sensitivity"] if r["sensitivity"] is not None else 0.0,
    "SpRAy, then intervention": lambda r: {"confirmed": 1.0, "inconclusive": 0.5}.get(r["word"], 0.0),
}
FIXED = {"SpRAy + metadata": -math.log10(ALPHA), "SpRAy, then intervention": 0.75}  # limits that are not tuned


def ranked(users, others):
    """Area under the curve between networks."""
    if not users or not others:
        return math.nan
    a, b = np.asarray(users)[:, None], np.asarray(others)[None]
    return float(((a > b) + 0.5 * (a == b)).mean())


def limit(name, rows):
    """Between the highest tuning network that does not use the shortcut and the lowest that does; the lowest that does where they overlap."""
    if name in FIXED:
        return FIXED[name]
    users = [v for m, v in rows if m.tuning and uses(m)]
    others = [v for m, v in rows if m.tuning and not uses(m)]
    if not users or not others:
        return math.nan
    return (min(users) + max(others)) / 2 if min(users) > max(others) else min(users)


def rate(values, at):
    hits = sum(v >= at for v in values)
    if not values:
        return "-"
    low, high = wilson(hits, len(values))
    return f"{hits} of {len(values)} ({low:.0%} to {high:.0%})"


def table(found):
    lines = ["| detector | method | AUC between networks | limit | found | false alarms, trained | false alarms, untrained or at chance | false alarms at 90 % found |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, read in DETECTORS.items():
        for method in METHODS:
            rows = [(m, read(r[method])) for m, r in found.items() if "refused" not in r[method]]
            at = limit(name, rows)
            users = [v for m, v in rows if not m.tuning and uses(m)]
            clean = [v for m, v in rows if not m.tuning and m.above_chance and not uses(m)]
            blind = [v for m, v in rows if not m.tuning and not m.above_chance and not uses(m)]
            low = sorted(users, reverse=True)[math.ceil(0.9 * len(users)) - 1] if users else math.nan
            lines.append(
                f"| {name} | {method} | {ranked(users, clean + blind):.2f} | {at:.2f} | {rate(users, at)} | {rate(clean, at)} | {rate(blind, at)}"
                f" | {rate(clean + blind, low)} |"
            )
    return "\n".join(lines)


# ------------------------------------------------------------------ what cannot be seen
def spoiled(x, how, chance):
    """An image (c, *space) as another scanner would make it: nowhere in particular."""
    if how == "blur":
        return gaussian(x, [0.7] * (x.ndim - 1))
    return x + 0.02 * torch.randn(x.shape, generator=chance)


def blind_net(how):
    """A network whose label is the scanner alone: trained in seconds on the family's images; which are spoiled is a coin."""
    net = own.untrained("fundus_dme", "residual", 77)
    path = CACHE / f"unseen-{how}.pt"
    chance = torch.Generator().manual_seed(5)
    if not path.exists():
        x, _ = family._data("fundus_dme", "clean")
        coin = torch.randint(0, 2, (len(x),), generator=chance)
        x = torch.stack([spoiled(v, how, chance) if c else v for v, c in zip(x, coin, strict=True)])
        step = torch.optim.AdamW(net.parameters(), 3e-3)
        net.train()
        for _ in range(4):
            for rows in torch.randperm(len(x), generator=chance).split(32):
                step.zero_grad()
                F.cross_entropy(net(x[rows]), coin[rows]).backward()
                step.step()
        torch.save(net.state_dict(), path)
    net.load_state_dict(torch.load(path))
    return net.eval()


def unseen():
    """For networks that read the scanner and for a clean one: what the detectors say when the scanner is no place in the image."""
    clean = next((m for m in present() if m.kind == "fundus_dme" and m.role == "clean" and m.seed == 1), None)
    rows = {}
    for how in UNSEEN:
        for name in ("reads it alone", "clean"):
            path = CACHE / f"unseen-{how}-{name.replace(' ', '-')}-{code_hash('evidence/shortcuts')[:12]}.json"
            if not path.exists() and (name != "clean" or clean):
                net = clean.net() if name == "clean" else blind_net(how)
                path.write_text(json.dumps(_unseen(how, pl.Model(net, classes=CLASSES["fundus_dme"]))))
            if path.exists():
                rows[f"{how}, {name}"] = json.loads(path.read_text())
    return rows


def _unseen(how, net):
    chance = torch.Generator().manual_seed(6)
    images = [p.image for p in cohort("fundus_dme")[:32]]
    coin = [i % 4 in (0, 1) for i in range(len(images))]  # half of the sick and half of the well
    shown = [i.with_values(spoiled(i.values, how, chance)) if c else i for i, c in zip(images, coin, strict=True)]
    with torch.no_grad():
        plain, changed = (
            net.forward(torch.stack([spoiled(i.values, how, chance) if s else i.values for i in images])) for s in (False, True)
        )
    margin, moved = plain[:, 1] - plain[:, 0], changed[:, 1] - changed[:, 0]
    row = {"effect": float((moved - margin).mean() / torch.cat([margin, moved]).std())}
    probe = pl.site_probe(net, shown, coin, permutations=199)
    row |= {"probe": {k: m.value for k, m in probe.items()}, "methods": {}}
    for name, method in METHODS.items():
        maps = pl.explain(net, shown, 1, method=pl.read_method(method))
        twins = pl.explain(net, [i.with_values(spoiled(i.values, how, chance)) for i in images[:8]], 1, method=pl.read_method(method))
        bare = pl.explain(net, images[:8], 1, method=pl.read_method(method))
        ncc = np.nanmean([correlation(a.relevance.double(), b.relevance.double()) for a, b in zip(bare, twins, strict=True)])
        clusters = pl.spray(maps, metadata={"scanner": ["B" if c else "A" for c in coin]}, permutations=499, bootstraps=3)
        p = min((a.holm for a in clusters.associations), default=1.0)
        words = []
        if linked := [a for a in clusters.associations if a.value == "B" and a.holm < ALPHA]:
            cluster = clusters.clusters[min(linked, key=lambda a: a.holm).cluster]
            at = [i for i in cluster.members if coin[i]]
            words = [pl.intervene(net, [shown[i] for i in at], clusters.region(cluster.number), target=1, negatives=images[:8]).word]
        row["methods"][name] = {"p": p, "ncc": float(ncc), "word": words[0] if words else "no cluster"}
    return row


def unseen_table(rows):
    lines = ["| network | scanner | moves the score by | probe: image / activations | method | p, SpRAy + scanner | intervention on the region found | r of maps with and without |",
             "| --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, r in rows.items():
        how, who = name.split(", ")
        for k, (method, m) in enumerate(r["methods"].items()):
            first = f"| {who} | {how} | {r['effect']:+.2f} | {r['probe']['image']:.2f} / {r['probe']['auto']:.2f}" if not k else "| | | | "
            lines.append(f"{first} | {method} | {m['p']:.3f} | {m['word']} | {m['ncc']:.2f} |")
    return "\n".join(lines)


# ------------------------------------------------------------------ the picture
def figure(found, path):
    """Mass on the mark by network and method, and what SpRAy sees of one network that uses the mark beside one that does not."""
    plt = plots()
    fig, axes = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained", width_ratios=(1.5, 1, 1))
    groups = {
        "uses the mark": lambda m: uses(m),
        "does not": lambda m: m.above_chance and not uses(m),
        "untrained, at chance": lambda m: not m.above_chance and not uses(m),
    }
    for k, method in enumerate(METHODS):
        for g, (name, belongs) in enumerate(groups.items()):
            values = [r[method]["enrichment"] for m, r in found.items() if belongs(m) and "refused" not in r[method]]
            x = k + (g - 1) * 0.22 + np.linspace(-0.06, 0.06, len(values)) if values else []
            axes[0].plot(x, values, "o^s"[g], color=COLORS[g], ms=4, alpha=0.8, label=name if not k else None)
    axes[0].axhline(1, color=FAINT, lw=0.8)
    axes[0].set_yscale("symlog", linthresh=1)
    axes[0].set_xticks(range(len(METHODS)), METHODS, fontsize=8)
    axes[0].set_title("Positive relevance on the mark over its area (1: chance)")
    axes[0].set_ylim(-0.5, 3000)
    axes[0].legend(frameon=False, fontsize=8, loc="upper right", ncols=3, columnspacing=1, handletextpad=0.1)
    for ax, role in ((axes[1], "confounded"), (axes[2], "clean")):
        member = next(
            (m for m in found if m.kind == "fundus_dme" and m.role == role and not m.tuning and uses(m) == (role == "confounded")), None
        )
        if member is None:
            ax.set_axis_off()
            continue
        sick = material(member.kind)[0]
        maps = pl.explain(pl.Model(member.net()), [p.image for p in sick], 1, method=pl.read_method(METHODS["integrated gradients"]))
        seen = pl.spray(maps, metadata={"mark": [has(p) for p in sick]}, permutations=999, bootstraps=5)
        at = seen.embedding()
        for mark, color, form in ((True, COLORS[1], "o"), (False, COLORS[0], "^")):
            here = [k for k, i in enumerate(seen.kept) if has(sick[i]) == mark]
            ax.plot(*at[here].T, form, color=color, ms=5, label="marked" if mark else "plain")
        for k, i in enumerate(seen.kept):
            ax.annotate(str(seen.labels[i]), at[k], fontsize=6, color=INK, xytext=(3, 3), textcoords="offset points")
        p = min((a.holm for a in seen.associations), default=1.0)
        ax.set_title(f"Maps of a {role} network\n{len(seen.clusters)} clusters; mark: p = {p:.3f}", fontsize=9)
        ax.set_xticks([]), ax.set_yticks([])
        ax.legend(frameon=False, fontsize=8)
    keep(fig, path)


HEAD = f"""# Are shortcuts found?

Power and false alarms of the shortcut detectors, on networks of [family.md](family.md) whose use of a planted mark (a number stamped into a corner of a
fundus photograph, a letter on a chest film) is known by intervention: drawing it into healthy phantoms moves the score by more than 0.25 of its
spread. Each network answers for {COUNT // 2} phantoms (seed {SEED}, seen by none) with the finding, which carry the mark by a coin, and {PAIRS} pairs without the
finding, without and with the mark.

- *mass on the mark*: positive relevance on the mark over its share of the area, mean over marked positives. Needs to know where the mark is.
- *SpRAy + metadata*: does some cluster of maps go with "marked or not" (p < 0.05 after Holm, 999 exchanges)? Needs to suspect a column, no place.
- *confounder sensitivity* (Sun et al. 2023): share of the mark among the map's highest tenth, in pairs whose score moves; 0 where none moves,
  which is what the network does, not what its map shows. Needs twins.
- *SpRAy, then intervention*: the region where the cluster that goes with the mark differs from the others is inpainted, and copied into negatives, against
  the same form elsewhere; only *confirmed* is an alarm.

Limits of the first and third are the middle between tuning networks (residual, seed 0) that use the mark and those that do not; the other limits are
fixed. All rates are of other networks, with 95 % Wilson intervals.
"""
BLIND = """Adebayo et al. (2022) found attribution of no use for artifacts that cannot be seen. Here two small networks were trained to tell the scanner alone
(an image slightly blurred, or with a little more noise, by a coin; finding and mark at random), beside a clean network that was not. *moves the score*: mean
change by the artifact, in spreads. A detector that is right names the networks that read it and keeps silent on the clean ones."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="processor time after which no further network is begun")
    parser.add_argument("--page", default="shortcuts.md")
    parser.add_argument("--only", choices=("visible", "unseen"), help="keep what these networks give, write no page")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    if given.only == "unseen":
        unseen()
        return
    found = results(given.seconds)
    if given.only:
        return
    picture = ROOT / "docs" / "figures" / "shortcuts.png"
    figure(found, picture)
    scored = [m for m in found if not m.tuning]
    count = f"{sum(uses(m) for m in scored)} use the mark, {sum(m.above_chance and not uses(m) for m in scored)} do not, {sum(not m.above_chance and not uses(m) for m in scored)} are untrained or at chance"
    refused = sorted({f"{k}: {r[k]['refused']}" for r in found.values() for k in METHODS if "refused" in r[k]})
    made = stamp(
        "Made by `studies/shortcuts.py`",
        time.process_time() - began,
        f", {len(found)} networks, {len(scored)} for scoring; kept results of an earlier run on the same code are not in the time",
        of="evidence",
    )
    text = f"Scored: {len(scored)} networks ({count}).\n\n{table(found)}\n\n![Shortcuts](figures/shortcuts.png)\n\n" + "".join(
        f"Refused: {r}\n\n" for r in refused
    )
    put(given.page, HEAD, "Visible marks", text + made)
    put(given.page, HEAD, "What attribution cannot show", f"{BLIND}\n\n{unseen_table(unseen())}\n\n{made}")
    print((ROOT / "docs" / given.page if not Path(given.page).is_absolute() else Path(given.page)).read_text())


if __name__ == "__main__":
    main()
