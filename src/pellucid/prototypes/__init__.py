"""Prototypes: the network as a whole, in pictures that were made for it. What a unit, a class or a code looks like, and how little that proves."""

from pellucid.prototypes.figure import Panel as Panel
from pellucid.prototypes.figure import draw as draw
from pellucid.prototypes.result import Picture as Picture
from pellucid.prototypes.result import Prototype as Prototype
