"""Explanations by example: cases like this one, typical and odd ones, and the training images that decided a prediction."""

from pellucid.exemplars.index import Index as Index
from pellucid.exemplars.index import build_index as build_index
from pellucid.exemplars.index import open_index as open_index
from pellucid.exemplars.measures import Features as Features
from pellucid.exemplars.measures import MapFeatures as MapFeatures
from pellucid.exemplars.measures import Measure as Measure
from pellucid.exemplars.measures import Perceptual as Perceptual
from pellucid.exemplars.measures import Structural as Structural
from pellucid.exemplars.measures import Weighted as Weighted
from pellucid.exemplars.ranking import average_precision as average_precision
from pellucid.exemplars.ranking import kendall as kendall
from pellucid.exemplars.ranking import ndcg as ndcg
from pellucid.exemplars.ranking import over_patients as over_patients
from pellucid.exemplars.ranking import precision_at as precision_at
from pellucid.exemplars.search import Search as Search
from pellucid.exemplars.similar import Exemplars as Exemplars
from pellucid.exemplars.similar import Match as Match
from pellucid.exemplars.similar import similar as similar
