"""Synthetic patients with known causes, and small networks trained on them."""

from pellucid.phantoms.brain import brain as brain
from pellucid.phantoms.chest import chest as chest
from pellucid.phantoms.cohort import KINDS as KINDS
from pellucid.phantoms.cohort import cases as cases
from pellucid.phantoms.drawing import Phantom as Phantom
from pellucid.phantoms.files import save as save
from pellucid.phantoms.fundus import fundus as fundus
from pellucid.phantoms.nets import load as load
from pellucid.phantoms.spectrogram import spectrogram as spectrogram
