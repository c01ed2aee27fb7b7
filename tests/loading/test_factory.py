import argparse
import hashlib
import random
import re
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.loading.nets import Bomb, factory_file, small
from torch import nn

import pellucid as pl
from pellucid.errors import BadFile, BadModel, BadParameter, Untrusted
from pellucid.loading import load_model

X = torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def program(tmp_path):
    mark = tmp_path / "ran"
    return factory_file(tmp_path, mark), mark


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and error.value.asked and error.value.got and error.value.fix
    return text


def test_a_factory_runs_only_with_the_users_word(program):
    file, mark = program
    with pytest.raises(Untrusted) as error:
        load_model(f"{file}:make")
    text = one_line(error)

    assert str(file) in text and hashlib.sha256(file.read_bytes()).hexdigest() in text and "--trust" in text
    assert not mark.exists()
    assert isinstance(load_model(f"{file}:make", trust="code").module, nn.Module) and mark.exists()


def test_a_module_is_found_without_running_its_packages(tmp_path, monkeypatch):
    package = tmp_path / "outer_pkg_of_test"
    package.mkdir()
    marks = [tmp_path / "outer", tmp_path / "inner"]
    (package / "__init__.py").write_text(f"open({str(marks[0])!r}, 'w')\n")
    (package / "inner.py").write_text(f"open({str(marks[1])!r}, 'w').close()\nfrom tests.loading.nets import Small as make\n")
    (package / "__init__.py").write_text(f"open({str(marks[0])!r}, 'w').close()\n")
    monkeypatch.chdir(tmp_path)  # the command line's folder is searched as well
    before = list(sys.path)
    with pytest.raises(Untrusted, match=re.escape("inner.py")):
        load_model("outer_pkg_of_test.inner:make")
    assert not any(m.exists() for m in marks) and "outer_pkg_of_test" not in sys.modules
    try:
        model = load_model("outer_pkg_of_test.inner:make", trust="code", options={"outputs": 5}, classes=list("abcde"))
        assert model.module.head.out_features == 5 and model.classes == tuple("abcde")
        assert all(m.exists() for m in marks) and sys.path == before
    finally:
        sys.modules.pop("outer_pkg_of_test", None), sys.modules.pop("outer_pkg_of_test.inner", None)


@pytest.mark.parametrize("wrap", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "_orig_mod."])
def test_weights_arrive_from_every_common_wrapping(program, tmp_path, wrap, prefix):
    state = {prefix + k: v for k, v in small(7).state_dict().items()}
    path = tmp_path / "w.pth"
    torch.save(state if wrap is None else {wrap: state, "epoch": 3, "optimizer": {"lr": 0.1}}, path)
    model = load_model(f"{program[0]}:make", weights=path, trust="code")
    assert torch.equal(model.module(X), small(7)(X))
    assert model.source["from"] == "factory.py:make"  # no folder: it may name a person
    assert not model.module.training and set(model.source["sha256"]) == {"factory.py", "w.pth"} and model.source["notes"] == ()


def test_safetensors(program, tmp_path):
    save_file(small(7).state_dict(), tmp_path / "w.safetensors")
    model = load_model(f"{program[0]}:make", weights=tmp_path / "w.safetensors", trust="code")
    assert torch.equal(model.module(X), small(7)(X))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "w.safetensors").read_bytes()[:300])
    with pytest.raises(BadFile, match=re.escape("cut.safetensors")):
        load_model(f"{program[0]}:make", weights=tmp_path / "cut.safetensors", trust="code")


def test_a_child_called_model_keeps_its_prefix(program, tmp_path):
    (tmp_path / "held.py").write_text("from torch import nn\nfrom tests.loading.nets import small\n"
                                      "def make():\n    net = nn.Module()\n    net.model = small(1)\n    return net\n")  # fmt: skip
    torch.save({"model." + k: v for k, v in small(7).state_dict().items()}, tmp_path / "w.pt")
    model = load_model(f"{tmp_path / 'held.py'}:make", weights=tmp_path / "w.pt", trust="code")
    assert torch.equal(model.module.model(X), small(7)(X))


def test_names_and_shapes_that_do_not_fit_are_named(program, tmp_path):
    state = small().state_dict()
    del state["head.bias"]
    state["neck.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BadModel, match=r"1 missing \(head.bias\) and 1 unexpected \(neck.weight\)") as error:
        load_model(f"{program[0]}:make", weights=tmp_path / "w.pt", trust="code")
    one_line(error)
    torch.save(small(outputs=3).state_dict(), tmp_path / "w.pt")
    with pytest.raises(BadModel, match=re.escape("head.weight (3, 4) for (2, 4), head.bias (3,) for (2,)")):
        load_model(f"{program[0]}:make", weights=tmp_path / "w.pt", trust="code")
    state = small().state_dict()
    state["head.bias"][0] = float("nan")
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BadModel, match=re.escape("head.bias")):
        load_model(f"{program[0]}:make", weights=tmp_path / "w.pt", trust="code")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("trust", ["data", "code"])
def test_a_malicious_pickle_runs_nothing(program, tmp_path, trust, legacy):
    mark = tmp_path / "bombed"
    path = tmp_path / "w.pth"
    torch.save({"state_dict": small().state_dict(), "hyper": Bomb(mark)}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(Untrusted) as error:
        load_model(f"{program[0]}:make", weights=path, trust=trust)
    one_line(error)
    with pytest.raises(Untrusted) as error:
        load_model(path, trust=trust)
    assert "add_safe_globals" not in one_line(error) and "getattr" in str(error.value)
    assert not mark.exists()
    load_model(f"{program[0]}:make", weights=path, trust="pickle")
    assert mark.exists()  # the payload is real


def test_a_pickled_network_is_refused_with_the_safe_way(tmp_path):
    torch.save(small(4), tmp_path / "net.pt")
    for trust in ("data", "code"):
        with pytest.raises(Untrusted, match=r"state_dict.*--unsafe-pickle") as error:
            load_model(tmp_path / "net.pt", trust=trust)
        assert re.search(r"sha256 [0-9a-f]{64}", one_line(error))
    model = load_model(tmp_path / "net.pt", trust="pickle")
    assert torch.equal(model.module(X), small(4)(X)) and model.source["trust"] == "pickle" and model.name == "Small"


@pytest.mark.parametrize(
    ("extra", "named", "allow"),
    [
        (argparse.Namespace(lr=0.1), "argparse.Namespace", [argparse.Namespace]),
        (np.float64(0.87), "scalar", [np._core.multiarray.scalar, np.dtype, type(np.dtype("float64"))]),
    ],
)
def test_a_checkpoint_with_other_objects_names_the_allow_list(program, tmp_path, extra, named, allow):
    torch.save({"state_dict": small(7).state_dict(), "extra": extra}, tmp_path / "w.ckpt")
    with pytest.raises(Untrusted, match="add_safe_globals") as error:
        load_model(f"{program[0]}:make", weights=tmp_path / "w.ckpt", trust="code")
    assert named in one_line(error)
    with torch.serialization.safe_globals(allow):
        assert torch.equal(load_model(f"{program[0]}:make", weights=tmp_path / "w.ckpt", trust="code").module(X), small(7)(X))


def test_broken_and_missing_files(program, tmp_path):
    torch.save(small().state_dict(), tmp_path / "w.pt")
    (tmp_path / "cut.pt").write_bytes((tmp_path / "w.pt").read_bytes()[:700])
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "empty.pt").write_text("")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    torch.save(torch.rand(3), tmp_path / "tensor.pt")
    for name in ("cut.pt", "text.pt", "empty.pt", "none.pt", "tensor.pt", "absent.pt", "absent.safetensors"):
        with pytest.raises(BadFile, match=re.escape(name)) as error:
            load_model(f"{program[0]}:make", weights=tmp_path / name, trust="code")
        one_line(error)


@pytest.mark.parametrize(
    ("what", "match"),
    [
        ("broken", "KeyError.*no config"),
        ("wrong", "list"),
        ("number", "int"),
        ("absent", "no 'absent'"),
        ("Holder", "Holder"),
    ],
)
def test_factories_that_fail_say_so_on_one_line(program, what, match):
    with pytest.raises(BadModel, match=match) as error:
        load_model(f"{program[0]}:{what}", trust="code")
    one_line(error)


def test_options_are_checked_before_the_call(program):
    with pytest.raises(BadModel, match="outptus"):
        load_model(f"{program[0]}:make", trust="code", options={"outptus": 3})
    with pytest.raises(BadModel, match="is a network"):
        load_model(f"{program[0]}:Holder.net", trust="code", options={"outputs": 3})
    assert torch.equal(load_model(f"{program[0]}:Holder.net", trust="code").module(X), small(3)(X))
    model = load_model(f"{program[0]}:shifted", trust="code")
    assert "no weights file" in model.source["notes"][0]
    why = pl.explain(model, torch.rand(1, 9, 9), target=0, method="saliency")
    assert any("no weights file" in c for c in why.provenance.caveats)


def test_nothing_global_moves(program):
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    before = list(sys.path)
    load_model(f"{program[0]}:make", trust="code")
    assert torch.equal(states[0], torch.get_rng_state()) and (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert states[2] == random.getstate() and sys.path == before


def test_words_that_name_nothing(tmp_path):
    for source, match in [
        ("resnet50", "phantom:NAME"),
        ("no_such_package_here:make", "no_such_package_here"),
        ("torch.no_such_module:make", "torch.no_such_module"),
        (str(tmp_path / "gone.py") + ":make", "does not exist"),
        (str(tmp_path / "gone.pt2"), "exists"),
    ]:
        with pytest.raises(BadModel, match=match) as error:
            load_model(source, trust="code")
        one_line(error)
    torch.save(small().state_dict(), tmp_path / "w.pt")
    with pytest.raises(BadModel, match=re.escape("weights='w.pt'")):
        load_model(tmp_path / "w.pt")
    with pytest.raises(BadParameter, match="data, code, pickle"):
        load_model("a:b", trust=True)
    with pytest.raises(BadParameter, match="Did you mean 'ends_in'"):
        load_model("a:b", ends_im="softmax")
    with pytest.raises(BadParameter, match="sequence of names"):
        load_model("a:b", classes="cat")


def test_a_factory_may_describe_its_network(tmp_path):
    file = tmp_path / "described.py"
    file.write_text("import pellucid as pl\nfrom tests.loading.nets import small\n"
                    "def make():\n    return pl.Model(small(2), classes=('no', 'yes'), normalize=pl.Normalize(0.5, 0.25))\n")  # fmt: skip
    model = load_model(f"{file}:make", trust="code", range=(0.0, 2.0))
    assert model.classes == ("no", "yes") and model.normalize == pl.Normalize(0.5, 0.25) and model.range == (0.0, 2.0)


def test_factory_of_an_installed_package(tmp_path):
    model = load_model("torch.nn:Identity", trust="code")
    assert isinstance(model.module, nn.Identity)


REWRITES = """
import pathlib, torch
def make():
    net = torch.nn.Linear(2, 2)
    torch.save({k: torch.zeros_like(v) for k, v in net.state_dict().items()}, pathlib.Path(__file__).with_name("w.pt"))
    return net
"""


def test_the_hash_is_that_of_the_bytes_that_were_loaded(tmp_path):
    (tmp_path / "net.py").write_text(REWRITES)
    net = nn.Linear(2, 2)
    torch.save(net.state_dict(), tmp_path / "w.pt")
    first = hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest()
    model = load_model(f"{tmp_path}/net.py:make", weights=tmp_path / "w.pt", trust="code")
    assert torch.equal(model.module.weight, net.weight) and model.source["sha256"]["w.pt"] == first
    assert hashlib.sha256((tmp_path / "w.pt").read_bytes()).hexdigest() != first, "the factory has rewritten its weights"
