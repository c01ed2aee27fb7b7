"""Pellucid: medical-imaging networks that explain themselves, with the evidence for trusting it."""

from typing import TYPE_CHECKING

from pellucid.baseline import Constant as Constant
from pellucid.baseline import black as black
from pellucid.baseline import black_and_white as black_and_white
from pellucid.baseline import blurred as blurred
from pellucid.baseline import each_of as each_of
from pellucid.baseline import half_gray as half_gray
from pellucid.baseline import mean_of as mean_of
from pellucid.baseline import random as random
from pellucid.baseline import white as white
from pellucid.channels import Normalize as Normalize
from pellucid.compare import compare as compare
from pellucid.compare import crop_and_zoom as crop_and_zoom
from pellucid.comparison import Comparison as Comparison
from pellucid.errors import PellucidError as PellucidError
from pellucid.evidence import Grades as Grades
from pellucid.evidence import Metric as Metric
from pellucid.evidence import examine as examine
from pellucid.evidence import grade as grade
from pellucid.evidence import metric as metric
from pellucid.evidence import metrics as metrics
from pellucid.evidence import read_metric as read_metric
from pellucid.explain import explain as explain
from pellucid.explanation import Evidence as Evidence
from pellucid.explanation import Explanation as Explanation
from pellucid.explanation import Map as Map
from pellucid.explanation import Measurement as Measurement
from pellucid.explanation import Provenance as Provenance
from pellucid.grid import Grid as Grid
from pellucid.image import Image as Image
from pellucid.late import late
from pellucid.method import Ask as Ask
from pellucid.method import Cite as Cite
from pellucid.method import Cost as Cost
from pellucid.method import Method as Method
from pellucid.method import ask as ask
from pellucid.method import method as method
from pellucid.method import methods as methods
from pellucid.method import read_method as read_method
from pellucid.model import Model as Model
from pellucid.model import Windows as Windows
from pellucid.prepare import Prepare as Prepare
from pellucid.probe.patterns import Patterns as Patterns
from pellucid.probe.patterns import patterns as patterns
from pellucid.probe.probe import Probe as Probe
from pellucid.regions import by_region as by_region
from pellucid.run import Run as Run
from pellucid.table import Table as Table
from pellucid.target import Target as Target
from pellucid.target import channel as channel
from pellucid.target import logit as logit
from pellucid.target import neuron as neuron
from pellucid.target import probability as probability
from pellucid.target import region as region

LATER = (
    "annotation",
    "attribution",
    "concepts",
    "effects",
    "exemplars",
    "loading",
    "phantoms",
    "prototypes",
    "reader_study",
    "report",
    "study",
    "testing",
)  # imported when first named
WITHIN = {  # names that are found in their folder when first named
    "attribution": (
        "ablation_cam",
        "attention_rollout",
        "blur_ig",
        "cam",
        "conductance",
        "deconvnet",
        "deep_shap",
        "deep_taylor",
        "deeplift",
        "eigen_cam",
        "excitation_backprop",
        "expected_gradients",
        "extremal_perturbation",
        "grad_cam",
        "grad_cam_plus_plus",
        "guided_backprop",
        "guided_grad_cam",
        "guided_ig",
        "hires_cam",
        "influential_neurons",
        "input_x_gradient",
        "integrated_gradients",
        "interior_gradients",
        "internal_influence",
        "kernel_shap",
        "layer_cam",
        "lime",
        "lrp",
        "meaningful_perturbation",
        "meaningful_perturbation_3d",
        "occlusion",
        "pattern_attribution",
        "pattern_net",
        "rise",
        "saliency",
        "score_cam",
        "smooth",
        "smoothgrad",
        "smoothgrad_squared",
        "transformer_attribution",
        "vargrad",
        "xgrad_cam",
        "xrai",
    ),
    "evidence.cues": (
        "attacked",
        "baseline_color_bias",
        "caution",
        "cues",
        "error_groups",
        "stress",
        "surprise",
    ),
    "evidence.localization": (
        "boxes",
        "propose",
    ),
    "evidence.predictions": (
        "QualityLimits",
        "calibration",
        "check_image",
        "find_duplicates",
        "temperature",
        "trust_score",
        "uncertainty",
    ),
    "evidence.shortcuts": (
        "confounder_sensitivity",
        "intervene",
        "site_probe",
        "spray",
    ),
    "io": (
        "check_audit",
        "read",
        "send",
        "series",
    ),
    "loading": ("load_model",),
    "loading.saved": ("load",),
    "recurrence": ("unrolled",),
    "signals": (
        "on_signals",
        "signal",
    ),
}
if TYPE_CHECKING:
    from pellucid import annotation as annotation
    from pellucid import attribution as attribution
    from pellucid import concepts as concepts
    from pellucid import effects as effects
    from pellucid import exemplars as exemplars
    from pellucid import loading as loading
    from pellucid import phantoms as phantoms
    from pellucid import prototypes as prototypes
    from pellucid import reader_study as reader_study
    from pellucid import report as report
    from pellucid import study as study
    from pellucid import testing as testing
    from pellucid.attribution import ablation_cam as ablation_cam
    from pellucid.attribution import attention_rollout as attention_rollout
    from pellucid.attribution import blur_ig as blur_ig
    from pellucid.attribution import cam as cam
    from pellucid.attribution import conductance as conductance
    from pellucid.attribution import deconvnet as deconvnet
    from pellucid.attribution import deep_shap as deep_shap
    from pellucid.attribution import deep_taylor as deep_taylor
    from pellucid.attribution import deeplift as deeplift
    from pellucid.attribution import eigen_cam as eigen_cam
    from pellucid.attribution import excitation_backprop as excitation_backprop
    from pellucid.attribution import expected_gradients as expected_gradients
    from pellucid.attribution import extremal_perturbation as extremal_perturbation
    from pellucid.attribution import grad_cam as grad_cam
    from pellucid.attribution import grad_cam_plus_plus as grad_cam_plus_plus
    from pellucid.attribution import guided_backprop as guided_backprop
    from pellucid.attribution import guided_grad_cam as guided_grad_cam
    from pellucid.attribution import guided_ig as guided_ig
    from pellucid.attribution import hires_cam as hires_cam
    from pellucid.attribution import influential_neurons as influential_neurons
    from pellucid.attribution import input_x_gradient as input_x_gradient
    from pellucid.attribution import integrated_gradients as integrated_gradients
    from pellucid.attribution import interior_gradients as interior_gradients
    from pellucid.attribution import internal_influence as internal_influence
    from pellucid.attribution import kernel_shap as kernel_shap
    from pellucid.attribution import layer_cam as layer_cam
    from pellucid.attribution import lime as lime
    from pellucid.attribution import lrp as lrp
    from pellucid.attribution import meaningful_perturbation as meaningful_perturbation
    from pellucid.attribution import meaningful_perturbation_3d as meaningful_perturbation_3d
    from pellucid.attribution import occlusion as occlusion
    from pellucid.attribution import pattern_attribution as pattern_attribution
    from pellucid.attribution import pattern_net as pattern_net
    from pellucid.attribution import rise as rise
    from pellucid.attribution import saliency as saliency
    from pellucid.attribution import score_cam as score_cam
    from pellucid.attribution import smooth as smooth
    from pellucid.attribution import smoothgrad as smoothgrad
    from pellucid.attribution import smoothgrad_squared as smoothgrad_squared
    from pellucid.attribution import transformer_attribution as transformer_attribution
    from pellucid.attribution import vargrad as vargrad
    from pellucid.attribution import xgrad_cam as xgrad_cam
    from pellucid.attribution import xrai as xrai
    from pellucid.evidence.cues import attacked as attacked
    from pellucid.evidence.cues import baseline_color_bias as baseline_color_bias
    from pellucid.evidence.cues import caution as caution
    from pellucid.evidence.cues import cues as cues
    from pellucid.evidence.cues import error_groups as error_groups
    from pellucid.evidence.cues import stress as stress
    from pellucid.evidence.cues import surprise as surprise
    from pellucid.evidence.localization import boxes as boxes
    from pellucid.evidence.localization import propose as propose
    from pellucid.evidence.predictions import QualityLimits as QualityLimits
    from pellucid.evidence.predictions import calibration as calibration
    from pellucid.evidence.predictions import check_image as check_image
    from pellucid.evidence.predictions import find_duplicates as find_duplicates
    from pellucid.evidence.predictions import temperature as temperature
    from pellucid.evidence.predictions import trust_score as trust_score
    from pellucid.evidence.predictions import uncertainty as uncertainty
    from pellucid.evidence.shortcuts import confounder_sensitivity as confounder_sensitivity
    from pellucid.evidence.shortcuts import intervene as intervene
    from pellucid.evidence.shortcuts import site_probe as site_probe
    from pellucid.evidence.shortcuts import spray as spray
    from pellucid.io import check_audit as check_audit
    from pellucid.io import read as read
    from pellucid.io import send as send
    from pellucid.io import series as series
    from pellucid.loading import load_model as load_model
    from pellucid.loading.saved import load as load
    from pellucid.recurrence import unrolled as unrolled
    from pellucid.signals import on_signals as on_signals
    from pellucid.signals import signal as signal
else:
    __getattr__, __dir__ = late(__name__, WITHIN, LATER)
    __all__ = [name for name in __dir__() if not name.startswith("_") and name not in ("TYPE_CHECKING", "late")]
