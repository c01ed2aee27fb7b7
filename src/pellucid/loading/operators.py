"""Operators of networks: what a .pt2 program may call as data. Each checks its arguments on the CPU; what skips checks is not among them.

The list is that of core ATen (``torch.Tag.core`` in torch 2.13) and of what ``torch.export`` writes for networks in evaluation, with and
without ``run_decompositions``, less everything that is random, uninitialized, sparse, nested, quantized, of training, that reaches beyond
its tensors' memory, or is unchecked (the kernels below batch_norm, group_norm, attention and fft take any sizes, and the sum of repeats in
a tensor may wrap around: such arguments crashed them). It is written out, so that another torch does not change what is let in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import nn

OPERATOR = re.compile(r"torch\.ops\.aten\.(\w+)\.(\w+)")
OPERATORS = frozenset(  # of one number; over axes; of shapes; of places; new tensors; layers; sizes, and what export asserts of them
    """
    abs acos acosh add addcdiv addcmul asin asinh atan atan2 atanh ceil celu clamp clamp_max clamp_min clip copysign cos cosh deg2rad div
    divide elu erf erfc erfinv exp exp2 expm1 floor floor_divide fmax fmin fmod frac gelu glu hardshrink hardsigmoid hardswish hardtanh
    leaky_relu lerp lgamma log log10 log1p log2 log_sigmoid logaddexp logit maximum minimum mish mul multiply nan_to_num neg negative pow
    prelu rad2deg reciprocal relu relu6 remainder round rrelu rsqrt rsub selu sgn sigmoid sign silu sin sinc sinh softplus softshrink
    sqrt square sub subtract tan tanh threshold true_divide trunc xlogy
    bitwise_and bitwise_not bitwise_or bitwise_xor logical_and logical_not logical_or logical_xor __and__ __or__ __xor__
    eq ge greater greater_equal gt isclose isfinite isinf isnan le less less_equal lt ne not_equal
    where masked_fill _to_copy to type_as
    all amax amin aminmax any argmax argmin argsort count_nonzero cummax cummin cumprod cumsum dist logcumsumexp logsumexp max mean
    median min mode nansum norm linalg_norm linalg_vector_norm prod sort std std_mean sum topk var var_mean
    softmax _softmax log_softmax _log_softmax cosine_similarity
    alias as_strided atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to cat chunk clone column_stack concat concatenate
    contiguous copy detach diag diag_embed diagonal dstack expand expand_as flatten flip fliplr flipud hstack lift_fresh lift_fresh_copy
    meshgrid moveaxis movedim narrow permute pixel_shuffle pixel_unshuffle channel_shuffle ravel repeat repeat_interleave.self_int reshape
    reshape_as roll rot90 select slice split split_with_sizes squeeze stack swapaxes swapdims t tensor_split tile transpose tril triu
    unbind unflatten unfold unsqueeze view view_as vstack _unsafe_view _reshape_copy
    constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d replication_pad3d
    select_scatter slice_scatter diagonal_scatter fill zero
    gather index index_add index_copy index_fill index_put index_select masked_scatter masked_select nonzero nonzero_numpy scatter
    scatter_add scatter_reduce take take_along_dim embedding one_hot bucketize searchsorted
    arange eye full full_like linspace new_full new_ones new_zeros ones ones_like scalar_tensor zeros zeros_like
    addbmm addmm addmv baddbmm bilinear bmm cdist dot einsum linear matmul mm mv outer tensordot chain_matmul linalg_multi_dot
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d adaptive_max_pool3d avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool1d_with_indices
    max_pool2d_with_indices max_pool3d_with_indices
    batch_norm group_norm instance_norm layer_norm rms_norm native_layer_norm
    alpha_dropout dropout feature_alpha_dropout feature_dropout native_dropout
    scaled_dot_product_attention
    col2im im2col affine_grid_generator grid_sampler grid_sampler_2d grid_sampler_3d
    upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d upsample_trilinear3d
    _upsample_bicubic2d_aa _upsample_bilinear2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d
    fft_fft2 fft_fftn fft_fftshift fft_ifft2 fft_ifftn fft_ifftshift fft_irfft2 fft_irfftn fft_rfft2 fft_rfftn
    complex imag polar real view_as_complex view_as_real
    _assert_scalar _assert_tensor_metadata item _local_scalar_dense sym_constrain_range sym_constrain_range_for_size
    sym_is_contiguous sym_numel sym_size sym_storage_offset sym_stride
    """.split()
)
NAMED = {"ScalarType": torch.dtype, "Layout": torch.layout, "MemoryFormat": torch.memory_format, "Device": torch.device}
SIZED = ("_assert_", "sym_constrain_range")  # the rest without a tensor are of TorchScript: endless lists
INTS = re.compile(r"\bint(?:\[\d*\])?\?? (\w+)")  # in the text of a schema: the types of its arguments call SymInt an int too
VAST = 2**31  # the windows of max_pool1d and im2col wrap around far beyond it, and then reach anywhere
PLAIN = re.compile(
    r"_operator\.(eq|ne|le|ge|lt|gt|neg|pos|mul|add|sub|floordiv|mod|pow|truediv|and_|or_|lshift|rshift|getitem)"
    r"|math\.(trunc|ceil|floor)|torch\.(sym_(int|float|ite|max|min|not|sqrt|sum)|_sym_sqrt)"
    r"|torch\.ops\.higher_order\.(cond|wrap_with_set_grad_enabled|wrap_with_autocast)"
)


def is_known(target: str) -> bool:
    """An operator of the list (in place too, not into a given tensor), or arithmetic of sizes; that it is one is asked of torch."""
    found = OPERATOR.fullmatch(target)
    if found is None:
        return PLAIN.fullmatch(target) is not None
    name, overload = found.groups()
    listed = {name, name.removesuffix("_"), f"{name}.{overload}"} & OPERATORS
    if not listed or overload == "out" or overload.endswith("_out") or overload.startswith("prim_"):
        return False
    operator = getattr(getattr(torch.ops.aten, name, None), overload, None)
    return isinstance(operator, torch._ops.OpOverload) and ("Tensor" in str(operator._schema) or name.startswith(SIZED))


def misfits(program: nn.Module) -> Iterator[str]:
    """Arguments that operators take unchecked: a number in place of a dtype, layout, memory format or device; a vast or computed one as int.

    Export writes what an operator declares as int (the window of a pooling, a dimension) as a number, and sizes as SymInt.
    """
    for module in program.modules():
        for node in getattr(getattr(module, "graph", None), "nodes", ()):
            if isinstance(node.target, torch._ops.OpOverload):
                places = node.target._schema.arguments
                given = {a.name: v for a, v in zip(places, node.args, strict=False)} | dict(node.kwargs)
                ints = set() if node.target._opname.startswith(SIZED) else set(INTS.findall(str(node.target._schema)))
                for place in places:
                    if place.name in ints and not _is_modest(given.get(place.name)):
                        yield f"{place.name}={given[place.name]!r} of {node.target}"
                    kind = NAMED.get(str(place.real_type).removeprefix("Optional[").removesuffix("]"))
                    value = given.get(place.name)
                    if kind is not None and value is not None and not isinstance(value, kind):
                        yield f"{place.name}={value!r} of {node.target}"


def _is_modest(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_modest, value))
    return value is None or (isinstance(value, int) and abs(value) <= VAST)
