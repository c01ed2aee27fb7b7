"""Prototypes: the network as a whole, in pictures that were made for it. What a unit, a class or a code looks like, and how little that proves."""

from pellucid.prototypes.autoencoder import Autoencoder as Autoencoder
from pellucid.prototypes.autoencoder import autoencoder as autoencoder
from pellucid.prototypes.direction import direction as direction
from pellucid.prototypes.dissected import Dissection as Dissection
from pellucid.prototypes.dissection import network_dissection as network_dissection
from pellucid.prototypes.figure import Panel as Panel
from pellucid.prototypes.figure import draw as draw
from pellucid.prototypes.filters import Filters as Filters
from pellucid.prototypes.filters import filters as filters
from pellucid.prototypes.generator import generator_prior as generator_prior
from pellucid.prototypes.inversion import Inversion as Inversion
from pellucid.prototypes.inversion import inversion as inversion
from pellucid.prototypes.inverter import Inverter as Inverter
from pellucid.prototypes.inverter import train_inverter as train_inverter
from pellucid.prototypes.maco import maco as maco
from pellucid.prototypes.maximization import activation_maximization as activation_maximization
from pellucid.prototypes.result import Picture as Picture
from pellucid.prototypes.result import Prototype as Prototype
from pellucid.prototypes.traced import Traces as Traces
from pellucid.prototypes.traces import unit_traces as unit_traces
