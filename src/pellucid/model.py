"""Model: the user's network described. It touches nothing and owns nothing."""

from __future__ import annotations

import inspect
import json
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import chain
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pellucid.channels import Normalize, Pairs, ends, pairs, span
from pellucid.errors import BadImage, BadModel, BadParameter
from pellucid.image import Image, digest
from pellucid.reading import Output, Reading
from pellucid.written import contents, structure, written

SHAPE_SIGNS = (  # how torch words a batch that does not fit
    "expected input",
    "channels",
    "size mismatch",
    "shapes cannot be multiplied",
    "must match the size",
    "Calculated padded",
    "Sizes of tensors",
    "output size is too small",
    "Kernel size can't be greater",
    "shape '[",
    "Expected input at",
    "(unbatched)",
    "D input (got",
    "Dimension out of range",
)
TOLD_APART = {"module", "name", "source"}  # fields of a Model: the first by weights and structure, the others change no number
CONTRADICTIONS = {  # a softmax's classes exclude each other and are several, a sigmoid's do not, a regression has none
    ("multi-label", "softmax"), ("single logit", "softmax"), ("regression", "softmax"), ("logits", "sigmoid"), ("regression", "sigmoid"),
}  # fmt: skip
FEW = 64  # values of a weight by which a write through .data is noticed
_hashes: weakref.WeakKeyDictionary[nn.Module, tuple[Hashable, str]] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class Windows:
    """How a network runs inputs larger than it takes: overlapping tiles of ``size``, blended."""

    size: int | tuple[int, ...]
    overlap: float = 0.25
    blend: Literal["gaussian", "constant"] = "gaussian"

    def __post_init__(self) -> None:
        sizes = self.size if isinstance(self.size, tuple) else (self.size,)
        if not sizes or not all(isinstance(n, int) and n > 0 for n in sizes):
            raise BadParameter(
                "size of windows is a whole number above 0, or one for each axis", repr(self.size), "Write 96, or (96, 96, 64)."
            )
        if not isinstance(self.overlap, (int, float)) or not 0 <= self.overlap < 1:
            raise BadParameter("overlap of windows is a share from 0 to below 1", repr(self.overlap), "Write 0.25.")
        if self.blend not in ("gaussian", "constant"):
            raise BadParameter("blend of windows is 'gaussian' or 'constant'", repr(self.blend), "Choose one.")


@dataclass(frozen=True, eq=False)
class Model:
    """A network described: nothing of it is changed, and nothing is kept but a reference.

    Args:
        module: the network; takes (n, c, *space).
        classes: names, in the order of the outputs.
        output: what its numbers are; None reads it from the shape ((n, k): logits, (n,) or (n, 1): a single logit, (n, k, *space):
            segmentation). A single logit z with two class names stands for (-z, z).
        select: where the output lies if the network returns a tuple or dict: an index, a key, or a tuple of them.
        prepare: Image -> Image, not differentiated (windowing, orientation, resampling, crop); see ``Prepare``.
        normalize: per channel, differentiated. Baselines, noise and fills are given in the units before it.
        range: lowest and highest value of a prepared image ("black" and "white"), or such a pair for each channel; None: (0, 1) if the image
            lies in it and 1 is near, else its own, for each channel alone where they have units of their own (see ``span``).
        windows: tiles for big inputs.
        ends_in: "softmax" or "sigmoid" where the network gives probabilities; targets then go back to the logit.
        source: where it was loaded from: kind, trust, sha256 of its files, notes (filled by ``load_model``).
    """

    module: nn.Module
    classes: tuple[str, ...] = ()
    output: Output | None = None
    select: Any = None
    prepare: Callable[[Image], Image] | None = None
    normalize: Normalize | None = None
    range: Pairs | None = None
    windows: Windows | None = None
    ends_in: Literal["softmax", "sigmoid"] | None = None
    name: str = field(default="")
    source: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.module, nn.Module):
            raise BadModel("a model is a torch.nn.Module", type(self.module).__name__, "Wrap a function in a Module.")
        module: Any = self.module
        while isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or hasattr(module, "_orig_mod"):
            # replicas run in threads of their own, and compiled code (_orig_mod) as a whole, where no rule or hook would reach them
            module = getattr(module, "_orig_mod", None) or module.module
        object.__setattr__(self, "module", module)
        object.__setattr__(self, "classes", _names(self.classes))
        object.__setattr__(self, "range", pairs(self.range))
        object.__setattr__(self, "name", self.name or type(module).__name__)
        if self.output is not None and self.output not in ("logits", "multi-label", "single logit", "segmentation", "regression"):
            raise BadModel("output is logits, multi-label, single logit, segmentation or regression", repr(self.output), "Say which.")
        if self.ends_in not in (None, "softmax", "sigmoid"):
            raise BadModel("ends_in is softmax or sigmoid", repr(self.ends_in), "Leave it out where the network gives scores.")
        if (self.output, self.ends_in) in CONTRADICTIONS:
            fix = "Leave output= out, or leave ends_in= out."
            raise BadModel("output and ends_in that agree", f"output={self.output!r} with ends_in={self.ends_in!r}", fix)

    @property
    def reading(self) -> Reading:
        return Reading(self.output, self.classes, self.ends_in)

    @property
    def device(self) -> torch.device:
        first = next(chain(self.module.parameters(), self.module.buffers()), None)
        return torch.device("cpu") if first is None else first.device

    @property
    def dtype(self) -> torch.dtype | None:
        """Type of most of the parameters (None: it has none)."""
        kinds: dict[torch.dtype, int] = {}
        for p in self.module.parameters():
            if p.is_floating_point():
                kinds[p.dtype] = kinds.get(p.dtype, 0) + p.numel()
        return max(kinds, key=lambda kind: kinds[kind], default=None)

    def check_weights(self) -> None:
        """Whether attribution can be asked of such weights.

        Raises:
            BadModel: half precision, made under inference_mode, or a lazy layer without a shape.
        """
        for p in self.module.parameters():
            if isinstance(p, nn.UninitializedParameter):
                raise BadModel(
                    "weights with their shapes", "a lazy layer that no batch has passed", "Run one batch through the network first."
                )
            if p.dtype in (torch.float16, torch.bfloat16):
                raise BadModel("attribution needs weights in float32 or float64", str(p.dtype), "Explain model.float().")
            if p.is_inference():
                fix = "Load the network outside of it."
                raise BadModel("weights that autograd can see", "weights made under torch.inference_mode()", fix)

    def ready(self, image: Image) -> tuple[Image, Tensor]:
        """The prepared image, and its tensor as the network wants it (device, dtype), before ``normalize``."""
        seen = self.prepare(image) if self.prepare is not None else image
        if not isinstance(seen, Image):
            raise BadModel("prepare gives an Image", type(seen).__name__, "Return image.with_values(...).")
        if self.normalize is not None:
            for value in (self.normalize.mean, self.normalize.std):
                if isinstance(value, tuple) and len(value) != len(seen.values):
                    raise BadImage(f"normalize has {len(value)} channels", f"an image of {len(seen.values)}", "Check the channels.")
        if self.range is not None and isinstance(self.range[0], tuple) and len(self.range) != len(seen.values):
            raise BadImage(
                f"range has a pair for each of {len(self.range)} channels", f"an image of {len(seen.values)}", "Check the channels."
            )
        return seen, seen.values.to(self.device, self.dtype or seen.values.dtype)

    def span(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and highest value that an image like this (c, *space) may have, by channel: see ``span``."""
        return span(values, self.range, self.normalize)

    def width(self, values: Tensor) -> Tensor:
        """Highest less lowest value in an image (c, *space), (c, 1, ..., 1) in float64, subtracted as the image's own values are."""
        low, high, _ = ends(values, self.range, self.normalize)
        return (high - low).to(values.dtype).double()

    def comparable(self, values: Tensor) -> Tensor:
        """The image (c, *space) itself if its channels share a unit; else each channel from 0 to 1 over its span."""
        if ends(values, self.range, self.normalize)[2]:
            return values
        low, high = self.span(values)
        return ((values - low.to(values)) / torch.where(high > low, high - low, 1.0).to(values)).to(values)

    def forward(self, batch: Tensor, *, normalized: bool = False) -> Tensor:
        """Batch (n, c, *space) of prepared images (``normalized``: already so) to the selected output, a plain tensor (n, ...)."""
        x = batch.clone() if self.normalize is None or normalized else self.normalize(batch)  # the network may write into what it is given
        try:
            out = self.module(x)
        except (RuntimeError, ValueError, IndexError) as error:
            if _about_shapes(error):
                raise BadModel(
                    f"{self.name} takes another input",
                    f"a batch of shape {tuple(x.shape)} ({_first_line(error)})",
                    "Check channels and size, or give prepare=.",
                ) from error
            raise
        except TypeError as error:
            if wanted := _other_inputs(self.module):
                fix = "Wrap it in a Module that holds the others, or stacks them as channels and takes them apart."
                raise BadModel("a network of one tensor", f"a forward that also wants {wanted}", fix) from error
            raise
        out = _selected(out, self.select)
        if not isinstance(out, Tensor):
            raise BadModel("the network gives a tensor", _described(out), "Name the part: pl.Model(..., select=" + _example(out) + ").")
        out = out if type(out) is Tensor else out.as_subclass(Tensor)
        if out.is_complex():
            raise BadModel("scores are real numbers", str(out.dtype), "Return their magnitude.")
        if out.ndim == 0 or len(out) != len(batch):
            raise BadModel(f"one output per sample, first axis {len(batch)}", f"shape {tuple(out.shape)}", "The batch is axis 0.")
        if (
            out.ndim > 2
            and out[0, 0].numel() == 1 < batch[0, 0].numel()
            and self.output in (None, "logits", "multi-label", "single logit", "regression")
        ):
            out = out.flatten(1)  # a fully convolutional classifier: (n, k, 1, 1)
        outputs = 1 if out.ndim == 1 else out.shape[1]
        if self.classes and outputs != len(self.classes) and (outputs, len(self.classes)) != (1, 2):
            raise BadModel(f"{len(self.classes)} classes for as many outputs", f"shape {tuple(out.shape)}", "Name every output.")
        return out

    def state(self) -> Hashable:
        """Changes whenever a weight does: identity, version and a few values of every parameter and buffer.

        Writing through ``.data`` leaves identity and version as they are; of that only a change of the few values is seen.
        """
        tensors = [*self.module.parameters(), *self.module.buffers()]
        dense = [t.detach() for t in tensors if t.layout == torch.strided and t.is_floating_point() and t.numel() and not t.is_quantized]
        few = torch.stack([t.reshape(-1)[:: max(1, t.numel() // FEW)].double().sum() for t in dense]) if dense else torch.zeros(0)
        told = tuple((t.data_ptr() if t.layout == torch.strided else id(t), -1 if t.is_inference() else t._version) for t in tensors)
        return told, tuple(few.tolist())

    @property
    def fingerprint(self) -> str:
        """sha256 of all parameters and buffers with their names."""
        state = self.state()
        known = _hashes.get(self.module)
        if known is None or known[0] != state:
            parts: list[Tensor | str] = []
            for name, t in contents(self.module).items():
                parts += [name, t.as_subclass(Tensor)] if isinstance(t, Tensor) else [name, repr(t)]
            known = _hashes[self.module] = (state, digest(*parts))
        return known[1]

    @property
    def identity(self) -> str:
        """sha256 of all that can change a number: weights, structure, preparation, normalization, reading; not the name."""
        told = self.described() | {"prepare": written(self.prepare), "classes": written(self.classes)}
        return digest(json.dumps(told | {"weights": self.fingerprint, "structure": structure(self.module)}, sort_keys=True))

    def described(self) -> dict[str, str]:
        """How the network was described, by the fields that change a number: all but its classes, which are told as they are, and ``prepare``."""
        return {f.name: written(getattr(self, f.name)) for f in fields(self) if f.name not in (*TOLD_APART, "classes", "prepare")}

    def weights_later(self) -> Callable[[], str]:
        """The fingerprint as of now, worked out when called; says so if the weights have changed by then."""
        then = self.state()

        def find() -> str:
            return self.fingerprint if self.state() == then else "unknown (the weights changed before they were hashed)"

        return find


def _names(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes)
    if isinstance(classes, str) or not all(isinstance(n, str) for n in names):
        raise BadModel("classes is a tuple of names", repr(classes), "Write classes=('healthy', 'disease').")
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice is not None:
        raise BadModel("every class has its own name", f"{twice!r} twice", "Rename one.")
    return names


def as_model(net: Any) -> Model:
    """A Model from a Model or a bare network."""
    return net if isinstance(net, Model) else Model(net)


def _selected(out: Any, path: Any) -> Any:
    for step in () if path is None else path if isinstance(path, tuple) else (path,):
        try:
            out = getattr(out, step) if isinstance(step, str) and hasattr(out, step) and not isinstance(out, dict) else out[step]
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise BadModel(f"select={path!r} names a part of the output", _described(out), "Choose one of these.") from error
    return out


def _described(out: Any) -> str:
    if isinstance(out, dict):
        return f"a dict with {', '.join(repr(k) for k in out)}"
    if isinstance(out, (tuple, list)):
        return f"a {type(out).__name__} of {len(out)}: " + ", ".join(
            str(tuple(o.shape)) if isinstance(o, Tensor) else type(o).__name__ for o in out
        )
    return type(out).__name__


def _example(out: Any) -> str:
    if isinstance(out, dict):
        return repr(next((k for k, v in out.items() if isinstance(v, Tensor)), next(iter(out), "key")))
    return "0"


def _other_inputs(module: nn.Module) -> str:
    """The parameters of its forward, after the first, that have no default."""
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())[1:]
    except (TypeError, ValueError):
        return ""
    return ", ".join(p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__


def _about_shapes(error: Exception) -> bool:
    text = str(error)
    return any(sign in text for sign in SHAPE_SIGNS)
