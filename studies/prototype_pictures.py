"""Draw the pictures of docs/prototypes.md: python studies/prototype_pictures.py chest fundus brain maco decoder facets inversion filters

Each is made anew from the phantom networks that ship and twenty-four phantoms that they were not trained on; a minute at most for each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

import pellucid as pl
from pellucid import prototypes
from pellucid.image import Image
from pellucid.phantoms import cases

FIGURES = Path(__file__).parents[1] / "docs" / "figures"
SEED = 7  # of phantoms that neither network nor autoencoder was trained on


def images(kind: str, n: int = 24) -> list[Image]:
    """Phantoms of all classes."""
    return [case.image for case in cases(kind, n, SEED)]


def healthy(kind: str, label: str) -> Image:
    """The first phantom without the finding."""
    return next(case.image for case in cases(kind, 24, SEED) if not case.labels[label])


def told(name: str, found: prototypes.Prototype | prototypes.Filters | prototypes.Inversion) -> None:
    """Draw a result, say it."""
    found.figure(FIGURES / f"prototypes_{name}.webp")
    print(f"\n{name}", *found.sentences(), sep="\n")


def chest() -> None:
    """Gray: a class of a chest film."""
    net = pl.loading.load_model("phantom:chest")
    told("chest", prototypes.activation_maximization(net, "cardiomegaly", images("chest")))


def fundus() -> None:
    """Color: what must be added to a healthy eye."""
    net, asked = pl.loading.load_model("phantom:fundus_dme"), pl.logit("DME") - pl.logit("no DME")
    start = healthy("fundus_dme", "dme")
    told("fundus", prototypes.activation_maximization(net, asked, images("fundus_dme"), start=start))


def brain() -> None:
    """A volume in three planes."""
    net, asked = pl.loading.load_model("phantom:brain_atrophy"), pl.logit("atrophy") - pl.logit("no atrophy")
    start = healthy("brain_atrophy", "atrophy")
    told("brain", prototypes.activation_maximization(net, asked, images("brain_atrophy", 12), start=start, steps=128))


def maco() -> None:
    """Phases alone."""
    net = pl.loading.load_model("phantom:chest")
    told("maco", prototypes.maco(net, "cardiomegaly", images("chest"), steps=160))


def decoder() -> None:
    """What a decoder of chest films can draw."""
    net, prior = pl.loading.load_model("phantom:chest"), prototypes.autoencoder("chest")[0]
    told("decoder", prototypes.generator_prior(net, "effusion", images("chest", 40), prior, steps=100))


def facets() -> None:
    """Several pictures of one class."""
    net = pl.loading.load_model("phantom:chest")
    told("facets", prototypes.activation_maximization(net, "infiltration", images("chest"), facets=3, steps=128))


def inversion() -> None:
    """What two depths of a network keep of an eye."""
    net, eye = pl.loading.load_model("phantom:fundus_dme"), next(c.image for c in cases("fundus_dme", 24, SEED) if c.labels["dme"])
    for name, site in (("inversion_early", "features.0"), ("inversion_late", "features.2")):
        told(name, prototypes.inversion(net, eye, site, draws=2))


def filters() -> None:
    """The first layer over colors."""
    net = pl.loading.load_model("phantom:fundus_dme")
    told("filters", prototypes.filters(net, "features.0.0", images("fundus_dme", 8)))


DRAWN: dict[str, Callable[[], None]] = {f.__name__: f for f in (chest, fundus, brain, maco, decoder, facets, inversion, filters)}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=list(DRAWN), metavar="name")
    torch.set_num_threads(1)
    for chosen in parser.parse_args().names or DRAWN:
        began = time.process_time()
        DRAWN[chosen]()
        print(f"{time.process_time() - began:.0f} s", flush=True)
