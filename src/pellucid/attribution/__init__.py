"""Attribution: where, for this image. One method a file; importing this package registers them all."""

from pellucid.attribution.integrated_gradients import integrated_gradients as integrated_gradients
from pellucid.attribution.saliency import saliency as saliency
