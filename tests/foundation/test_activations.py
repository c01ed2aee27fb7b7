"""Activations of many images at a site: what a hook sees, whatever the chunk; tables in memory, on the disk, and kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import pellucid as pl
from pellucid.activations import gather, look, pooled
from pellucid.errors import BadImage, BadModel, BadParameter, BadSite, Unsupported
from pellucid.run import Run
from pellucid.target import Predicted


def net(dims, seed=0):
    torch.manual_seed(seed)
    conv, pool = (nn.Conv2d, nn.AdaptiveAvgPool2d) if dims == 2 else (nn.Conv3d, nn.AdaptiveAvgPool3d)
    return nn.Sequential(
        conv(1, 4, 3, padding=1), nn.ReLU(inplace=True), conv(4, 6, 3, stride=2), nn.ReLU(), pool(1), nn.Flatten(), nn.Linear(6, 3)
    )


def scans(dims, n=7, sizes=(9,)):
    torch.manual_seed(1)
    return [torch.rand(1, *[sizes[i % len(sizes)]] * dims) for i in range(n)]


def by_hook(module, site, images):
    seen = []
    handle = module.get_submodule(site).register_forward_hook(lambda m, a, out: seen.append(out.detach().clone()))
    with torch.no_grad():
        for x in images:
            module(x[None])
    handle.remove()
    return [s[0] for s in seen]


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("chunk", [1, 3, None])
def test_what_a_hook_sees(dims, chunk):
    module, images = net(dims).eval(), scans(dims, sizes=(9, 9, 11))
    told = list(look(pl.Model(module), images, "2", 1, gradient=True, run=Run(chunk=chunk)))
    for seen, slow, x in zip(told, by_hook(module, "2", images), images, strict=True):
        assert torch.allclose(seen.activation, slow, atol=1e-6)
        z = slow[None].clone().requires_grad_()
        out = module[3:](z)
        (slope,) = torch.autograd.grad(out[0, 1], z)
        assert seen.gradient is not None and torch.allclose(seen.gradient, slope[0], atol=1e-7)
        assert seen.score == pytest.approx(out[0, 1].item(), abs=1e-6)
        assert seen.logits is not None and torch.allclose(seen.logits, out[0].detach().double(), atol=1e-6)
        assert seen.image == pl.Image(x).fingerprint


def test_pooling():
    z = torch.arange(12.0).reshape(2, 2, 3)
    assert pooled(z, "mean").tolist() == [2.5, 8.5]
    assert pooled(z, "max").tolist() == [5, 11]
    assert pooled(z, "none").tolist() == list(range(12))
    assert pooled(torch.tensor([1.0, 2.0]), "mean").tolist() == [1, 2]


def test_a_table_in_memory_or_in_a_file_is_the_same(tmp_path):
    model, images = pl.Model(net(2).eval()), scans(2)
    own = gather(model, images, "2", pool="none")
    spilled = gather(model, images, "2", pool="none", run=Run(memory=64))
    assert not isinstance(own.rows, np.memmap) and isinstance(spilled.rows, np.memmap)
    assert np.allclose(own.rows, spilled.rows, atol=1e-6) and own.shape == (6, 4, 4)
    assert own.key == spilled.key


def test_a_kept_table_is_that_of_these_weights_scans_and_site(tmp_path):
    module, images = net(2).eval(), scans(2)
    passes = []
    run = Run(on_tick=lambda done, total: passes.append((done, total)))
    first = gather(pl.Model(module, name="a"), images, "2", folder=tmp_path, run=run)
    spent = len(passes)
    assert passes[-1] == (7, 7)
    again = gather(pl.Model(module, name="another name"), images, "2", folder=tmp_path, run=run)
    assert len(passes) == spent and np.array_equal(first.rows, again.rows) and again.shape == first.shape
    assert gather(pl.Model(module), images[::-1], "2", folder=tmp_path).key != first.key
    assert gather(pl.Model(module), images, "0", folder=tmp_path).key != first.key
    with torch.no_grad():
        module[0].weight += 1
    other = gather(pl.Model(module), images, "2", folder=tmp_path)
    assert other.key != first.key and not np.allclose(other.rows, first.rows)
    assert gather(pl.Model(module, normalize=pl.Normalize(0.5, 0.5)), images, "2", folder=tmp_path).key != other.key


def test_what_the_caller_does_between_two_images_is_the_callers():
    module, images = net(2).train(), scans(2)
    torch.manual_seed(0)
    expected = torch.rand(8)
    torch.manual_seed(0)
    drawn = []
    with torch.no_grad():
        for _ in look(pl.Model(module), images, "2", run=Run(chunk=2)):
            drawn.append(torch.rand(()))
            assert not torch.is_grad_enabled() and module.training
            with torch.enable_grad():
                module(images[0][None]).sum().backward()
    assert torch.equal(torch.stack([*drawn, torch.rand(())]), expected) and torch.is_grad_enabled()


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.Sigmoid()])
def test_probabilities_are_refused_as_explain_refuses_them(end):
    module = nn.Sequential(*net(2), end).eval()
    with pytest.raises(BadModel, match="of its own"):
        next(look(pl.Model(module), scans(2), "2", 0))
    told = next(look(pl.Model(module, ends_in="softmax" if isinstance(end, nn.Softmax) else "sigmoid"), scans(2), "2", 0))
    assert told.logits is not None and told.score == pytest.approx(float(told.logits[0]), rel=1e-4)


def test_what_is_noticed_of_the_network_stays_with_the_table(tmp_path):
    module = nn.Sequential(*net(2), nn.Hardsigmoid()).eval()
    first = gather(pl.Model(module), scans(2), "2", folder=tmp_path)
    assert first.notes == gather(pl.Model(module), scans(2), "2", folder=tmp_path).notes


def _cut(table, notes):
    table.write_bytes(table.read_bytes()[:40])


def _other_values(table, notes):
    table.write_bytes(table.read_bytes()[:-4] + b"abcd")


def _archive(table, notes):
    with table.open("wb") as file:
        np.savez(file, a=np.zeros(3))


DAMAGES = {
    "cut": _cut, "empty": lambda table, notes: table.write_bytes(b""), "an archive": _archive, "other values": _other_values,
    "no notes": lambda table, notes: notes.unlink(), "a number": lambda table, notes: notes.write_text("5"),
    "lists": lambda table, notes: notes.write_text("[" * 100_000), "another shape": lambda table, notes: np.save(table, np.zeros((7, 9), np.float32)),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_table_is_made_anew(tmp_path, damage):
    model, images = pl.Model(net(2).eval()), scans(2)
    first = gather(model, images, "2", folder=tmp_path)
    path = tmp_path / f"{first.key}.npy"
    rows = np.array(first.rows)
    del first
    damage(path, path.with_suffix(".json"))
    again = gather(model, images, "2", folder=tmp_path)
    assert np.allclose(again.rows, rows, atol=1e-6) and again.shape == (6, 4, 4)


def test_all_that_a_table_depends_on_is_in_its_key(tmp_path):
    class Windowed(nn.Module):
        def __init__(self, mean):
            super().__init__()
            self.body = net(2)
            self.register_buffer("mean", torch.tensor(mean), persistent=False)

        def forward(self, x):
            return self.body(x - self.mean)

    images = [pl.Image(x, facts={"shift": shift}) for shift, x in zip((0.0, 0.5), scans(2, n=1) * 2, strict=True)]
    model = pl.Model(Windowed(0.0).eval())
    keys = [gather(model, images[:1], "body.2", pool=pool, folder=tmp_path).key for pool in ("mean", "max", "none")]
    keys.append(gather(pl.Model(Windowed(0.3).eval()), images[:1], "body.2", folder=tmp_path).key)
    shifted = pl.Model(Windowed(0.0).eval(), prepare=lambda image: image.with_values(image.values + image.facts["shift"]))
    keys += [gather(shifted, [image], "body.2", folder=tmp_path).key for image in images]
    assert len(set(keys)) == len(keys)


def test_the_network_goes_back_as_it_came_and_odd_ones_are_refused():
    module = net(2).train()
    gather(pl.Model(module), scans(2), "2")
    assert module.training and all(p.requires_grad for p in module.parameters())
    with pytest.raises(Unsupported, match="windows"):
        gather(pl.Model(module, windows=pl.Windows((4, 4))), scans(2), "2")
    with torch.no_grad():
        module[0].bias[0] = 1e38
        module[2].weight *= 1e38
    with pytest.raises(BadImage, match="finite activations"):
        gather(pl.Model(module), scans(2), "2")


def test_what_cannot_be_is_told():
    model = pl.Model(net(2).eval())
    with pytest.raises(BadImage, match="activations of one shape"):
        gather(model, scans(2, sizes=(9, 11)), "2", pool="none")
    with pytest.raises(BadParameter, match="at least one image"):
        gather(model, [], "2")
    with pytest.raises(BadParameter, match="mean, max or none"):
        gather(model, scans(2), "2", pool="median")
    with pytest.raises(BadSite):
        gather(model, scans(2), "nowhere")
    with pytest.raises(BadParameter, match="each image chooses"):
        list(look(model, scans(2), "2", Predicted()))
    with pytest.raises(BadParameter, match="gradient is that of a target"):
        list(look(model, scans(2), "2", gradient=True))
