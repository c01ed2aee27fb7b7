"""A .pt2 loads as data: its sites exist, and no file of that kind runs anything."""

import contextlib
import io
import json
import re
import zipfile

import pytest
import torch
from tests.loading.nets import bomb_bytes, small
from torch.export import Dim

import pellucid as pl
from pellucid.errors import BadFile, BadModel, PellucidError, Untrusted
from pellucid.loading import load_model

DYNAMIC = ({0: Dim.AUTO},)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "small.pt2"
    torch.export.save(torch.export.export(small(2), (torch.rand(2, 1, 11, 9),), dynamic_shapes=DYNAMIC), path)
    return path


def tampered(path, target, **members):
    """A copy with members exchanged (None: taken out) or added; ``graph=`` edits the program's text."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            short = name.split("/", 1)[-1]
            data = old.read(name)
            if short == "models/model.json" and "graph" in members:
                data = members["graph"](data.decode()).encode()
            if short in members.get("files", {}):
                data = members["files"][short]
            if data is not None:
                new.writestr(name, data)
        top = old.namelist()[0].split("/", 1)[0]
        have = {n.split("/", 1)[-1] for n in old.namelist()}
        for short, data in members.get("files", {}).items():
            if short not in have and data is not None:
                new.writestr(f"{top}/{short}", data)
    return target


def test_it_answers_like_the_network_and_has_its_sites(exported):
    model = load_model(exported, classes=("no", "yes"))
    x = torch.rand(3, 1, 11, 9)
    assert torch.allclose(model.module(x), small(2)(x), atol=1e-6)
    net = small(2)
    for method, site in (("integrated_gradients", None), ("saliency", "blocks.0.norm"), ("saliency", "blocks")):
        a, b = (pl.explain(n, x[0], target=1, method=method, site=site) for n in (model, net))
        assert torch.allclose(a.values, b.values, atol=1e-5) and a.grid == b.grid
    assert model.name == "small" and model.source["kind"] == "exported program" and model.source["trust"] == "data"
    assert len(model.source["sha256"]["small.pt2"]) == 64


def test_the_sample_input_is_never_read(exported, tmp_path):
    mark = tmp_path / "ran"
    path = tampered(exported, tmp_path / "a.pt2", files={"data/sample_inputs/model.pt": bomb_bytes(mark)})
    with pytest.raises(Exception, match="."):  # torch itself runs it, and stumbles afterwards
        torch.export.load(path)
    assert mark.exists()
    mark.unlink()
    load_model(path)
    load_model(path, trust="pickle")
    assert not mark.exists()


@pytest.mark.parametrize("trust", ["data", "code"])
@pytest.mark.parametrize("where", ["weight", "constant", "opaque", "legacy", "legacy constant"])
def test_pickles_inside_run_nothing(exported, tmp_path, where, trust):
    mark = tmp_path / "ran"
    bomb = io.BytesIO()
    torch.save({"x": torch.zeros(1)}, bomb)
    with zipfile.ZipFile(io.BytesIO(bomb.getvalue())) as old:
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w") as new:
            for n in old.namelist():
                new.writestr(n, bomb_bytes(mark) if n.endswith("data.pkl") else old.read(n))
    with zipfile.ZipFile(exported) as archive:
        weights = json.loads(next(archive.read(n) for n in archive.namelist() if n.endswith("model_weights_config.json")))
    first = next(iter(weights["config"].values()))
    first["use_pickle"] = True
    constant = {"path_name": "tensor_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    files = {
        "weight": {"data/weights/model_weights_config.json": json.dumps(weights).encode(), f"data/weights/{first['path_name']}": bomb.getvalue()},
        "constant": {"data/constants/model_constants_config.json": json.dumps({"config": {"k": constant}}).encode(),
                     "data/constants/tensor_0": bomb.getvalue()},
        "opaque": {"data/constants/model_constants_config.json":
                   json.dumps({"config": {"k": {**constant, "path_name": "opaque_obj_0"}}}).encode(),
                   "data/constants/opaque_obj_0": bomb_bytes(mark)},
        "legacy": {"data/weights/model.pt": bomb.getvalue()},
        "legacy constant": {"data/constants/model.pt": bomb.getvalue()},
    }[where]  # fmt: skip
    path = tampered(exported, tmp_path / "b.pt2", files=files)
    with pytest.raises(Untrusted, match="--unsafe-pickle"):
        load_model(path, trust=trust)
    assert not mark.exists()
    with contextlib.suppress(PellucidError):
        load_model(path, trust="pickle")
    assert mark.exists()  # the payload is real: torch would have run it


PAYLOAD = "__import__('pathlib').Path('{mark}').touch()"


def _expression(text, mark):
    return re.sub(r'"expr_str": "[^"]*"', '"expr_str": "' + PAYLOAD.format(mark=mark) + '"', text, count=1)


def _placeholder(text, mark):
    return re.sub(r'(?<=")x(?=")', f"x=({PAYLOAD.format(mark=mark)})", text)


def _module_name(text, mark):
    evil = 'st\\\\\\"+' + PAYLOAD.format(mark=mark) + '+\\\\\\"'
    return text.replace("stem", evil)


def _operator(text, mark):
    return text.replace("torch.ops.aten.relu.default", "torch.load")


def _file_operator(text, mark):
    return text.replace("torch.ops.aten.relu.default", "torch.ops.aten.from_file.default")


def _tree(text, mark):
    return text.replace(
        '\\"context\\": \\"[]\\"', '\\"context\\": \\"[{\\\\\\"__enum__\\\\\\": true, \\\\\\"fqn\\\\\\": \\\\\\"os:X.Y\\\\\\"}]\\"'
    )


def _namedtuple(text, mark):
    return text.replace('"treespec_namedtuple_fields": {}', '"treespec_namedtuple_fields": {"os.X": {"field_names": ["a"]}}')


@pytest.mark.parametrize("attack", [_expression, _placeholder, _module_name, _operator, _file_operator, _tree, _namedtuple])
def test_graphs_that_carry_code_are_refused(exported, tmp_path, attack):
    mark = tmp_path / "ran"

    def edit(text):
        changed = attack(text, mark)
        assert changed != text
        return changed

    path = tampered(exported, tmp_path / "c.pt2", graph=edit)
    with pytest.raises(Untrusted, match="--trust") as error:
        load_model(path)
    assert "\n" not in str(error.value) and not mark.exists()


def test_an_expression_is_a_real_danger(exported, tmp_path):
    mark = tmp_path / "ran"
    path = tampered(exported, tmp_path / "d.pt2", graph=lambda text: _expression(text, mark))
    with contextlib.suppress(BadFile):
        load_model(path, trust="code")
    assert mark.exists()


def test_libraries_inside_are_left_out(exported, tmp_path):
    path = tampered(exported, tmp_path / "e.pt2", files={"data/aotinductor/model/x.so": b"\x7fELF"})
    assert load_model(path).name == "e"


def test_guards_are_not_compiled(exported, tmp_path):
    mark = tmp_path / "ran"
    path = tampered(
        exported,
        tmp_path / "f.pt2",
        graph=lambda t: json.dumps({**json.loads(t), "guards_code": [PAYLOAD.format(mark=mark)]}),
    )
    load_model(path).module(torch.rand(2, 1, 11, 9))
    assert not mark.exists()


def test_broken_archives(exported, tmp_path):
    data = exported.read_bytes()
    (tmp_path / "cut.pt2").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.pt2").write_text("no")
    tampered(exported, tmp_path / "json.pt2", graph=lambda t: t[:500])
    tampered(exported, tmp_path / "thin.pt2", files={"data/weights/weight_0": b"abc"})
    tampered(exported, tmp_path / "gone.pt2", files={"data/weights/model_weights_config.json": None})
    for name in ("cut", "text", "json", "thin", "gone"):
        with pytest.raises(BadFile, match=f"{name}.pt2") as error:
            load_model(tmp_path / f"{name}.pt2")
        assert "\n" not in str(error.value)


def test_training_mode_is_refused(tmp_path):
    torch.export.save(torch.export.export(torch.nn.Dropout(0.5).train(), (torch.rand(2, 3),)), tmp_path / "t.pt2")
    with pytest.raises(BadModel, match=r"model.eval\(\)"):
        load_model(tmp_path / "t.pt2")


def test_a_program_of_batch_one_runs_one_at_a_time(tmp_path):
    net = small(2)
    torch.export.save(torch.export.export(net, (torch.rand(1, 1, 9, 9),)), tmp_path / "one.pt2")
    model, x = load_model(tmp_path / "one.pt2"), torch.rand(1, 9, 9)
    why = pl.explain(model, x, target=0, method="integrated_gradients", steps=8)
    assert torch.allclose(why.values, pl.explain(net, x, target=0, method="integrated_gradients", steps=8).values, atol=1e-5)
    assert why.provenance.chunk == 1 and any("one sample" in c for c in why.provenance.caveats)
    with pytest.raises(BadModel, match="takes another input"):
        pl.explain(model, torch.rand(1, 12, 9), target=0, method="saliency")


def test_weights_do_not_go_with_a_program(exported, tmp_path):
    with pytest.raises(BadModel, match="weights= goes with a factory"):
        load_model(exported, weights=tmp_path / "w.pt")
    with pytest.raises(BadModel, match="options= goes with a factory"):
        load_model(exported, options={"a": 1})
