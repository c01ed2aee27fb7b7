"""Effects: what a model does over many cases, by columns of a table or by what is changed in images."""

from pellucid.effects.curve import Axis as Axis
from pellucid.effects.curve import Curve as Curve
from pellucid.effects.curve import Effect as Effect
from pellucid.effects.curve import curve_of as curve_of
from pellucid.effects.surface import Surface as Surface
from pellucid.effects.surface import surface_of as surface_of
