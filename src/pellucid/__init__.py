"""Pellucid: medical-imaging networks that explain themselves, with the evidence for trusting it."""

from pellucid.attribution import integrated_gradients as integrated_gradients
from pellucid.attribution import saliency as saliency
from pellucid.explain import explain as explain
from pellucid.model import Model as Model
