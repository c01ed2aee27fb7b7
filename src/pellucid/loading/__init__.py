"""Loading: a network from a factory, an exported program, TorchScript, a MONAI bundle or the phantoms, at three levels of trust."""

from pellucid.loading.door import load_model as load_model
from pellucid.loading.trust import Trust as Trust
