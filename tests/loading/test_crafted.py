"""Files made to harm: nothing of the sender's decides how torch reads, calls what skips checks, unpacks without bound or ends in a traceback."""

import contextlib
import io
import json
import os
import pickle
import random
import re
import subprocess
import sys
import warnings
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from tests.loading.nets import Bomb, bomb_bytes, small
from torch import nn

from pellucid.errors import BadFile, BadModel, PellucidError, Untrusted
from pellucid.loading import load_model
from pellucid.loading.bundle import bundle_facts
from pellucid.loading.graph_check import suspects
from pellucid.loading.operators import OPERATORS, is_known
from pellucid.loading.weights import read_weights

WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"


@pytest.fixture(scope="module")
def members():
    """The files of an honest program, by their names."""
    held = io.BytesIO()
    torch.export.save(torch.export.export(small(2), (torch.rand(1, 1, 9, 9),)), held)
    with zipfile.ZipFile(held) as archive:
        return {n.split("/", 1)[-1]: archive.read(n) for n in archive.namelist()}


def packed(path, files, compression=zipfile.ZIP_STORED, extra=()):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in [*files.items(), *extra]:
            archive.writestr(f"model/{name}", data)
    return path


def changed(files, member, edit):
    """A copy in which ``edit`` has changed the JSON of one member."""
    held = json.loads(files[member])
    edit(held)
    return {**files, member: json.dumps(held).encode()}


def saved(mark):
    held = io.BytesIO()
    torch.save(Bomb(mark), held)
    return held.getvalue()


def _two_configs(files, mark):
    said = json.loads(files[WEIGHTS])
    first = next(iter(said["config"]))
    honest = {"config": {first: dict(said["config"][first])}}
    said["config"][first] |= {"use_pickle": True, "path_name": "weight_evil"}
    return {**files, WEIGHTS: json.dumps(said).encode(), "data/weights/weight_evil": saved(mark),
            "data/weights/zz_config.json": json.dumps(honest).encode()}  # fmt: skip


def _flagged(files, mark):
    first = next(iter(json.loads(files[WEIGHTS])["config"].values()))["path_name"]
    files = changed(files, WEIGHTS, lambda said: next(iter(said["config"].values())).update(use_pickle=True))
    return {**files, f"data/weights/{first}": saved(mark)}


def _truthy(files, mark):
    first = next(iter(json.loads(files[WEIGHTS])["config"].values()))["path_name"]
    files = changed(files, WEIGHTS, lambda said: next(iter(said["config"].values())).update(use_pickle="false"))
    return {**files, f"data/weights/{first}": saved(mark)}


def _constant(name):
    def craft(files, mark):
        entry = {"path_name": name, "is_param": False, "use_pickle": False, "tensor_meta": None}
        return {**files, CONSTANTS: json.dumps({"config": {"k": entry}}).encode(), f"data/constants/{name}": bomb_bytes(mark)}

    return craft


def _elsewhere(files, mark):
    files = changed(files, WEIGHTS, lambda said: next(iter(said["config"].values())).update(path_name="../sample_inputs/model.pt"))
    return {**files, "data/sample_inputs/model.pt": saved(mark)}


def _member(name):
    return lambda files, mark: {**files, name: saved(mark)}


CRAFTED = {
    "two configs": _two_configs, "flagged": _flagged, "truthy": _truthy, "opaque": _constant("opaque_obj_0"),
    "script object": _constant("custom_obj_0"), "unflagged constant": _constant("tensor_0"), "elsewhere": _elsewhere,
    "legacy": _member("data/weights/model.pt"), "legacy constants": _member("data/constants/model.pt"),
    "sample": _member("data/sample_inputs/model.pt"), "library": _member("data/aotinductor/model/x.so"), "second": _member("models/b.json"),
}  # fmt: skip


@pytest.mark.parametrize("craft", CRAFTED)
def test_a_pickle_is_never_run_as_data(members, tmp_path, monkeypatch, craft):
    mark = tmp_path / "ran"
    path = packed(tmp_path / "m.pt2", CRAFTED[craft](members, mark))
    honest, tripped = torch.load, []

    def load(*args, weights_only=False, **kwargs):
        if weights_only is not True:
            tripped.append("torch.load")
            raise AssertionError
        return honest(*args, weights_only=weights_only, **kwargs)

    def wire(*args, **kwargs):
        tripped.append("pickle")
        raise AssertionError

    monkeypatch.setattr(torch, "load", load)
    monkeypatch.setattr(torch._C, "_pickle_load_obj", wire)
    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, wire)
    for trust in ("data", "code"):
        with contextlib.suppress(PellucidError):
            load_model(path, trust=trust)
    assert not tripped and not mark.exists()
    if craft in ("sample", "library"):
        assert load_model(path).source["trust"] == "data"  # they are not read at all
    else:
        with pytest.raises((Untrusted, BadFile)):
            load_model(path)


def test_of_two_members_of_one_name_none_is_taken(members, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = packed(tmp_path / "m.pt2", members, extra=[(WEIGHTS, members[WEIGHTS])])
    with pytest.raises(BadFile, match="twice"):
        load_model(path)


@pytest.mark.parametrize(
    "lie",
    [
        {"sizes": [{"as_int": 2**40}], "strides": [{"as_int": 1}]},
        {"storage_offset": {"as_int": 10**6}},
        {"storage_offset": {"as_int": -8}},
        {"strides": [{"as_int": 2**60}] * 4},
        {"dtype": 99},
        {"layout": 1},
        {"sizes": None},
    ],
)
def test_a_tensor_stays_within_its_bytes(members, tmp_path, lie):
    files = changed(members, WEIGHTS, lambda said: said["config"]["stem.weight"]["tensor_meta"].update(lie))
    with pytest.raises(BadFile, match=re.escape("m.pt2")):
        load_model(packed(tmp_path / "m.pt2", files))


def _views(config, entry, sizes, count):
    said = {"sizes": [{"as_int": n} for n in sizes], "strides": [{"as_int": 0}] * len(sizes)}
    for i in range(count):
        config[f"v{i}"] = entry | {"tensor_meta": entry["tensor_meta"] | said | {"storage_offset": {"as_int": i}}}


@pytest.mark.parametrize(("sizes", "count"), [((2**40,), 1), ((2**14, 2**14), 1), ((2**20,), 8)])
def test_a_small_file_takes_little_memory(members, tmp_path, sizes, count):
    """Strides of 0 say more numbers than are stored, and torch makes a tensor of its own of each."""
    files = changed(members, WEIGHTS, lambda said: _views(said["config"], said["config"]["stem.weight"], sizes, count))
    with pytest.raises(BadFile, match=r"m\.pt2 take \d+ bytes; got \d+ stored"):
        load_model(packed(tmp_path / "m.pt2", files))


class Expanded(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.rand(1, 1, 9).expand(4, 9, 9))

    def forward(self, x):
        return x + self.mask


def test_a_buffer_expanded_in_earnest_loads(tmp_path):
    net, x = Expanded(), torch.rand(4, 9, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, that the tensor is part of a larger one
        torch.export.save(torch.export.export(net, (x,)), tmp_path / "m.pt2")
    assert torch.equal(load_model(tmp_path / "m.pt2").module(x), net(x))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.register_buffer("part", self.a.weight.detach()[1:])

    def forward(self, x):
        return self.b(torch.relu(self.a(x))) + self.part.sum()


def test_weights_that_share_memory_go_on_sharing_it(tmp_path):
    net, x = Tied().eval(), torch.rand(1, 3)
    torch.export.save(torch.export.export(net, (x,)), tmp_path / "tied.pt2")
    found = load_model(tmp_path / "tied.pt2").module
    assert torch.allclose(found(x), net(x)) and found.a.weight.data_ptr() == found.b.weight.data_ptr()
    assert found.a.weight.requires_grad and torch.equal(found.a.weight, net.a.weight)


# ---------------------------------------------------------------------------------------------------- operators
HARM = re.compile(
    r"unsafe(?!_view)|from_file|from_buffer|^set_|resize|sparse|nested|backward|quantize|^empty|storage_data|^rand|mkldnn|cudnn|native_batch_norm|native_group_norm|flash|^_fft"
)


def test_operators_that_skip_checks_are_not_known():
    names = {n.removeprefix("aten::") for n in torch._C._dispatch_get_all_op_names() if n.startswith("aten::")}
    known = {n for n in names if is_known("torch.ops.aten." + (n if "." in n else f"{n}.default"))}
    assert len(known) > 400 and not [n for n in known if HARM.search(n.split(".")[0])]
    assert not [n for n in known if re.search(r"[._]out$", n)]  # these write into a tensor that they are given, and resize it
    assert all(hasattr(torch.ops.aten, n.split(".")[0]) for n in OPERATORS if n != "rms_norm")
    assert {n for n in known if n.startswith("repeat_interleave")} == {"repeat_interleave.self_int"}  # repeats in a tensor go unchecked


HOSTILE = """
import resource, torch
from pellucid.loading.operators import is_known
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
r, b, wrap, few = torch.rand, 2**62, torch.tensor([2**62, 2**62, 2**62, 2**62 + 4]), torch.rand(1, 4, 1, 1)
CALLS = [
    ("repeat_interleave.Tensor", wrap), ("repeat_interleave.Tensor", wrap, {"output_size": 4}),
    ("repeat_interleave.self_Tensor", r(4), wrap, 0), ("repeat_interleave.self_int", r(4), b + 1, 0), ("repeat_interleave.self_int", r(4), -b),
    ("native_group_norm.default", few, None, None, 1, 4, b + 1, 4, 1e-5), ("native_group_norm.default", few, None, None, 4, b + 1, 1, 1, 1e-5),
    ("group_norm.default", few, 4, r(1)), ("group_norm.default", few, b), ("native_layer_norm.default", few, [b, 4], None, None, 1e-5),
    *((f"{name}.default", q, k, k) for name in ("_scaled_dot_product_flash_attention_for_cpu", "scaled_dot_product_attention") for q, k in (
        (r(2000, 8, 64, 64), r(1, 1, 64, 64)), (r(4, 64, 64, 64), r(4, 1, 64, 64)), (r(1, 1, 64, 64), r(1, 1, 0, 64)))),
    ("split_with_sizes.default", r(4), [-b, b + 4, -b, b]), ("repeat.default", r(4), [b, 4]), ("tile.default", r(4), [b, 4]),
    ("expand.default", r(1), [b, 4]), ("as_strided.default", r(4), [3, 2], [b, 1]), ("zeros.default", [b, 4]), ("new_zeros.default", r(4), [b, 4]),
    ("pixel_shuffle.default", r(1, 4, 4, 4), 2**32), ("unfold.default", r(4), 0, 2, b), ("take.default", r(4), wrap), ("roll.default", r(4), [b], [0]),
    ("constant_pad_nd.default", r(1, 4), [-b, b], 0), ("adaptive_avg_pool2d.default", few, [2**32, 2**32]), ("embedding.default", r(4, 4), wrap),
    ("im2col.default", few, [2, 2], [1, 1], [b, 0], [b, 1]), ("index_select.default", r(4), 0, wrap), ("masked_fill.Scalar", r(4), wrap > 0, b),
    ("upsample_nearest2d.default", few, [2**32, 2**32]), ("scatter_add.default", r(4), 0, wrap, r(4)), ("one_hot.default", wrap, 4),
]
for name, *given in CALLS:
    named = given.pop() if isinstance(given[-1], dict) else {}
    if is_known(f"torch.ops.aten.{name}"):
        print(name, flush=True)
        operator, overload = name.split(".")
        try:
            getattr(getattr(torch.ops.aten, operator), overload)(*given, **named)
        except (RuntimeError, IndexError, TypeError, ValueError):
            pass
print("alive")
"""


def test_numbers_that_wrap_around_crash_no_known_operator():
    done = subprocess.run([sys.executable, "-c", HOSTILE], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and done.stdout.endswith("alive\n"), done.stdout[-60:] + done.stderr[-200:]


class Repeating(nn.Module):
    def forward(self, x):
        return x.repeat_interleave(2, 1)


def test_layers_load_by_the_operator_that_checks(tmp_path):
    """Plainly exported they are group_norm, attention and repeats by one number; in small steps they are kernels that take any sizes."""
    nets = [
        nn.GroupNorm(2, 4),
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True),
        nn.MultiheadAttention(4, 2, batch_first=True),
        Repeating(),
    ]
    for net in nets:
        x = torch.rand(1, 4, 4)
        given = (x, x, x) if isinstance(net, nn.MultiheadAttention) else (x,)
        torch.export.save(torch.export.export(net.eval(), given), tmp_path / "m.pt2")
        ours, theirs = load_model(tmp_path / "m.pt2").module(*given), net(*given)
        pairs = zip(ours, theirs, strict=True) if isinstance(theirs, tuple) else [(ours, theirs)]
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own specifications of trees
        torch.export.save(torch.export.export(nets[0], (x,)).run_decompositions(), tmp_path / "m.pt2")
    with pytest.raises(Untrusted, match=r"native_group_norm.*export it plainly"):
        load_model(tmp_path / "m.pt2")


class Unchecked(nn.Module):
    def forward(self, x):
        made = torch.ops.aten._sparse_coo_tensor_unsafe.default(torch.tensor([[2**40]]), torch.ones(1), [4])
        return x.flatten(1)[:, :2] + made.to_dense()[:2]


def test_a_program_that_writes_where_it_likes_is_refused_by_name(tmp_path):
    torch.export.save(torch.export.export(Unchecked(), (torch.rand(1, 1, 4, 4),)), tmp_path / "m.pt2")
    with pytest.raises(Untrusted, match=r"_sparse_coo_tensor_unsafe.*no run_decompositions.*--trust"):
        load_model(tmp_path / "m.pt2")
    assert load_model(tmp_path / "m.pt2", trust="code").source["kind"] == "exported program"


def test_a_number_is_no_dtype(members, tmp_path):
    """arange(3, dtype=-1) reads beyond a table of dtypes: the operator takes a dtype as a plain number."""

    class Counting(nn.Module):
        def forward(self, x):
            return x + torch.arange(3, dtype=torch.float32)

    torch.export.save(torch.export.export(Counting(), (torch.rand(3),)), tmp_path / "m.pt2")
    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        files = {n.split("/", 1)[-1]: archive.read(n) for n in archive.namelist()}

    def edit(program):
        (dtype,) = (i for n in program["graph_module"]["graph"]["nodes"] for i in n["inputs"] if i["name"] == "dtype")
        dtype["arg"] = {"as_int": -1}

    with pytest.raises(BadModel, match="dtype=-1 of aten.arange"):
        load_model(packed(tmp_path / "m.pt2", changed(files, "models/model.json", edit)), trust="code")


class Sized(nn.Module):
    def forward(self, x):
        return x.view(x.shape[0], x.shape[1] * x.shape[2])[:, : x.shape[0]]


def test_sizes_may_be_computed(tmp_path):
    free = torch.export.Dim("free", min=2, max=9)
    torch.export.save(torch.export.export(Sized(), (torch.rand(3, 4, 4),), dynamic_shapes=({0: free},)), tmp_path / "m.pt2")
    assert load_model(tmp_path / "m.pt2").module(torch.rand(5, 4, 4)).shape == (5, 5)


class Pooling(nn.Module):
    def forward(self, x):
        return nn.functional.max_pool1d(x, 2, 1), nn.functional.unfold(x[:, None], 2)


@pytest.mark.parametrize(("operator", "name"), [("max_pool1d", "stride"), ("im2col", "dilation")])
@pytest.mark.parametrize("given", [{"as_ints": [2**62]}, {"as_ints": [-(2**62)] * 2}, {"as_sym_ints": [{"as_name": "x"}]}])
def test_windows_are_modest_numbers(tmp_path, operator, name, given):
    """Windows that wrap around reach beyond memory; they stand in the graph as numbers, none is computed while it runs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own specifications of trees
        torch.export.save(torch.export.export(Pooling(), (torch.rand(1, 4, 4),)), tmp_path / "m.pt2")
    assert load_model(tmp_path / "m.pt2").source["trust"] == "data"
    with zipfile.ZipFile(tmp_path / "m.pt2") as archive:
        files = {n.split("/", 1)[-1]: archive.read(n) for n in archive.namelist()}

    def edit(program):
        (node,) = (n for n in program["graph_module"]["graph"]["nodes"] if operator in n["target"])
        (window,) = (i for i in node["inputs"] if i["name"] == name)
        window["arg"] = given

    with pytest.raises(BadModel, match=rf"{name}=.* of aten\.{operator}"):
        load_model(packed(tmp_path / "m.pt2", changed(files, "models/model.json", edit)))


# What torch.export (2.13) wrote for 39 networks of MONAI (3D) and torchvision, as they are and after run_decompositions(), but for native_group_norm
SEEN = """
_assert_tensor_metadata.default _softmax.default _to_copy.default adaptive_avg_pool2d.default adaptive_avg_pool3d.default add.Tensor
add_.Tensor addmm.default alias.default any.dim arange.start_step as_strided.default avg_pool2d.default avg_pool3d.default
batch_norm.default bmm.default cat.default chunk.default clamp.default clamp_min.default clone.default constant_pad_nd.default
contiguous.default conv2d.default conv3d.default conv_transpose2d.input conv_transpose3d.input convolution.default copy.default
div.Tensor dropout.default dropout_.default einsum.default elu.default elu_.default eq.Scalar exp.default expand.default
expand_as.default feature_dropout.default fill_.Tensor flatten.using_ints fmod.Scalar full.default full_like.default gelu.default
group_norm.default gt.Scalar hardsigmoid.default hardswish_.default index.Tensor index_select.default instance_norm.default
layer_norm.default leaky_relu.default leaky_relu_.default lift_fresh_copy.default linalg_vector_norm.default linear.default
logical_not.default masked_fill.Scalar matmul.default max_pool2d.default max_pool2d_with_indices.default max_pool3d.default
max_pool3d_with_indices.default mean.dim mm.default mul.Scalar mul.Tensor native_layer_norm.default
ne.Scalar new_zeros.default pad.default permute.default prelu.default relu.default relu_.default repeat.default reshape.default
roll.default scalar_tensor.default scaled_dot_product_attention.default select.int sigmoid.default silu.default silu_.default
slice.Tensor slice_scatter.default softmax.int split.Tensor split_with_sizes.default squeeze.dim squeeze.dims stack.default
sub.Tensor sum.dim_IntList sym_size.int tanh.default to.device to.dtype transpose.int unflatten.int unsqueeze.default
upsample_nearest3d.vec upsample_trilinear3d.vec view.default where.self zero_.default zeros.default
"""


def test_operators_of_known_networks_are_known():
    assert [o for o in SEEN.split() if not is_known(f"torch.ops.aten.{o}")] == []


def nets():
    from monai.networks.nets import UNet, ViT

    yield UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,), num_res_units=1), (1, 1, 8, 8, 8)
    yield (ViT(in_channels=1, img_size=(16, 16), patch_size=(8, 8), hidden_size=8, mlp_dim=8, num_layers=1, num_heads=2, spatial_dims=2,
               classification=True), (1, 1, 16, 16))  # fmt: skip


def test_networks_load_as_data_and_answer_as_before(tmp_path):
    for net, shape in nets():
        x = torch.rand(shape)
        program = torch.export.export(net.eval(), (x,))
        torch.export.save(program, tmp_path / "m.pt2")
        ours, theirs = load_model(tmp_path / "m.pt2").module(x), net(x)
        for a, b in zip(*((v if isinstance(v, tuple) else (v,)) for v in (ours, theirs)), strict=True):
            assert isinstance(b, list) or torch.allclose(a, b, atol=1e-5)


def test_instance_norm_in_small_steps_is_no_training(tmp_path):
    net, x = nn.Sequential(nn.Conv2d(1, 2, 3), nn.InstanceNorm2d(2)).eval(), torch.rand(1, 1, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about its own specifications of trees
        torch.export.save(torch.export.export(net, (x,)).run_decompositions(), tmp_path / "m.pt2")
    with pytest.raises(Untrusted, match=r"_native_batch_norm_legit.*export it plainly"):
        load_model(tmp_path / "m.pt2")
    assert torch.allclose(load_model(tmp_path / "m.pt2", trust="code").module(x), net(x), atol=1e-5)


COSTLY = """
9**9**9**9; Pow(9, Pow(9, 99)); LShift(1, 99999999999); Integer(7)**99999999; Rational('1e99999999'); floor(Float('1e99999999'))
Integer(Float('1e999999999')); Mod(Float('1e999999999'), 3); Float(1, 1000000000); Float('1', precision=1000000000); floor(1e9_9999999)
floor(Pow(1e-99999999, -1)); Float(num='1', dps=1000000000); RoundDecimal(5, -1000000000); RoundDecimal(5, Integer(-1000000000))
""".replace("\n", ";")


def test_expressions_of_sizes_are_cheap(members, tmp_path):
    for text in [*filter(None, map(str.strip, COSTLY.split(";"))), "1+" * 20000 + "1"]:
        files = changed(members, "models/model.json", lambda p, t=text: p.update(range_constraints={}, x={"as_expr": {"expr_str": t}}))
        with pytest.raises(Untrusted, match="expr_str"):
            load_model(packed(tmp_path / "m.pt2", files))


def test_expressions_that_torch_writes_are_known():
    s = "Symbol('s31', positive=True, integer=True)"
    for text in (s, f"Mul(Float('0.33333333333333331', precision=53), {s})", f"Add(Integer(1), FloorDiv({s}, Integer(2)))",
                 f"TruncToInt(Mul(Float('1.0e-5', precision=53), ToFloat({s})))", f"RoundDecimal(ToFloat({s}), Integer(-2))",
                 f"Pow({s}, Integer(2))", "Rational(1, 2)", f"Max(Integer(1), {s})"):  # fmt: skip
        assert suspects({"expr_str": text}) == []


# ---------------------------------------------------------------------------------------------------- damage and bombs
def test_damage_of_any_kind_is_told(members, tmp_path):
    """Bytes changed at random: a file loads or is refused on one line, whatever its reader stumbles over."""
    state = {f"l{i}": torch.rand(3, 3) for i in range(4)}
    torch.save({"state_dict": state}, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "s.safetensors")
    dice, refused = random.Random(0), []
    for name in ("zip.pt", "old.pt", "s.safetensors"):
        whole = (tmp_path / name).read_bytes()
        for _ in range(150):
            data = bytearray(whole)
            for _ in range(dice.randint(1, 3)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            data = data[: dice.randrange(len(data))] if dice.random() < 0.2 else data
            path = tmp_path / f"damaged_{name}"
            path.write_bytes(data)
            try:
                read_weights(path, "data")
            except PellucidError as error:
                refused.append(str(error))
    assert len(refused) > 100 and not any("\n" in said for said in refused)


def _first_node(value):
    return lambda p: p["graph_module"]["graph"]["nodes"][0].update(inputs=value)


@pytest.mark.parametrize("value", [None, "abc", 5, [None], ["x"], [{"name": "train", "arg": "x"}], [{"name": "train"}], {}])
def test_a_damaged_graph_is_told(members, tmp_path, value):
    with pytest.raises(BadFile, match=re.escape("m.pt2")):
        load_model(packed(tmp_path / "m.pt2", changed(members, "models/model.json", _first_node(value))))


@pytest.mark.parametrize("member", ["models/model.json", WEIGHTS, CONSTANTS])
@pytest.mark.parametrize("text", [b"[" * 200000, b"[]", b"null", b'{"config": {"a": 5}}', b'{"config": {"a": {}}}', b"\xff"])
def test_damaged_descriptions_are_told(members, tmp_path, member, text):
    with pytest.raises(PellucidError) as error:
        load_model(packed(tmp_path / "m.pt2", {**members, member: text}))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", [b"[" * 100000, b"[]", b"5", b'{"network_data_format": {"inputs": 5}}', b'{"network_data_format": []}'])
def test_damaged_metadata_is_told(tmp_path, text):
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("configs/metadata.json", text)
    with pytest.raises(BadFile, match=re.escape("metadata.json")):
        load_model(tmp_path / "b.zip")


def test_metadata_does_not_unpack_without_bound(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("configs/metadata.json", b" " * (20 * 2**20))
    with pytest.raises(BadFile, match="at most"):
        load_model(tmp_path / "b.zip")
    (tmp_path / "b" / "configs").mkdir(parents=True)
    os.mkfifo(tmp_path / "b" / "configs" / "metadata.json")
    with pytest.raises(BadFile, match="no such file"):
        bundle_facts(tmp_path / "b")


def test_programs_and_weights_unpack_to_no_more_than_their_size(members, tmp_path):
    files = {**members, "data/weights/blank": bytes(2**20)}
    with pytest.raises(BadFile, match="not compressed"):
        load_model(packed(tmp_path / "m.pt2", files, zipfile.ZIP_DEFLATED))
    torch.save({"a": torch.zeros(2**18)}, tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.pt") as old, zipfile.ZipFile(tmp_path / "small.pt", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(BadFile, match="not compressed"):
        read_weights(tmp_path / "small.pt", "data")
    assert len(read_weights(tmp_path / "w.pt", "data")[0]["a"]) == 2**18
