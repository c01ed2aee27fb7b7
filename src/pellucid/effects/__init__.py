"""Effects: what a model does over many cases, by columns of a table or by what is changed in images."""

from pellucid.effects.accumulated import ale as ale
from pellucid.effects.accumulated import ale_pair as ale_pair
from pellucid.effects.curve import Axis as Axis
from pellucid.effects.curve import Curve as Curve
from pellucid.effects.curve import Effect as Effect
from pellucid.effects.curve import curve_of as curve_of
from pellucid.effects.dependence import ice as ice
from pellucid.effects.dependence import partial_dependence as partial_dependence
from pellucid.effects.dependence import partial_dependence_pair as partial_dependence_pair
from pellucid.effects.surface import Surface as Surface
from pellucid.effects.surface import surface_of as surface_of
