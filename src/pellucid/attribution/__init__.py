"""Attribution: where, for this image. One method a file; importing this package registers them all."""

from pellucid.attribution.ablation_cam import ablation_cam as ablation_cam
from pellucid.attribution.attention_rollout import attention_rollout as attention_rollout
from pellucid.attribution.blur_ig import blur_ig as blur_ig
from pellucid.attribution.cam import cam as cam
from pellucid.attribution.conductance import conductance as conductance
from pellucid.attribution.deconvnet import deconvnet as deconvnet
from pellucid.attribution.deep_shap import deep_shap as deep_shap
from pellucid.attribution.deep_taylor import deep_taylor as deep_taylor
from pellucid.attribution.deeplift import deeplift as deeplift
from pellucid.attribution.eigen_cam import eigen_cam as eigen_cam
from pellucid.attribution.excitation_backprop import excitation_backprop as excitation_backprop
from pellucid.attribution.expected_gradients import expected_gradients as expected_gradients
from pellucid.attribution.extremal_perturbation import extremal_perturbation as extremal_perturbation
from pellucid.attribution.grad_cam import grad_cam as grad_cam
from pellucid.attribution.grad_cam_plus_plus import grad_cam_plus_plus as grad_cam_plus_plus
from pellucid.attribution.guided_backprop import guided_backprop as guided_backprop
from pellucid.attribution.guided_grad_cam import guided_grad_cam as guided_grad_cam
from pellucid.attribution.guided_ig import guided_ig as guided_ig
from pellucid.attribution.hires_cam import hires_cam as hires_cam
from pellucid.attribution.input_x_gradient import input_x_gradient as input_x_gradient
from pellucid.attribution.integrated_gradients import integrated_gradients as integrated_gradients
from pellucid.attribution.integrated_gradients import interior_gradients as interior_gradients
from pellucid.attribution.internal_influence import internal_influence as internal_influence
from pellucid.attribution.kernel_shap import kernel_shap as kernel_shap
from pellucid.attribution.layer_cam import layer_cam as layer_cam
from pellucid.attribution.lime import lime as lime
from pellucid.attribution.lrp import lrp as lrp
from pellucid.attribution.meaningful_perturbation import meaningful_perturbation as meaningful_perturbation
from pellucid.attribution.meaningful_perturbation import meaningful_perturbation_3d as meaningful_perturbation_3d
from pellucid.attribution.occlusion import occlusion as occlusion
from pellucid.attribution.pattern_attribution import pattern_attribution as pattern_attribution
from pellucid.attribution.pattern_net import pattern_net as pattern_net
from pellucid.attribution.rise import rise as rise
from pellucid.attribution.saliency import saliency as saliency
from pellucid.attribution.score_cam import score_cam as score_cam
from pellucid.attribution.smooth import smooth as smooth
from pellucid.attribution.smooth import smoothgrad as smoothgrad
from pellucid.attribution.smooth import smoothgrad_squared as smoothgrad_squared
from pellucid.attribution.smooth import vargrad as vargrad
from pellucid.attribution.transformer_attribution import transformer_attribution as transformer_attribution
from pellucid.attribution.xgrad_cam import xgrad_cam as xgrad_cam
from pellucid.attribution.xrai import xrai as xrai

# isort: split
# its default wraps integrated_gradients, which must be registered by then
from pellucid.attribution.influential_neurons import influential_neurons as influential_neurons
