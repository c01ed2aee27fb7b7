"""Class activation maps at every site, and of many images: they share passes, and say what they say alone."""

import pytest
import torch
from tests.reference.plain import inside
from torch import nn

import pellucid as pl
from pellucid.errors import BadSite
from pellucid.testing import small_image, small_net, state_of

SITES = {  # body.1, a Dropout, hands on what it is given: its tensor is called by the outermost name
    "small": ["first", "norm", "act#0", "second", "act#1"],
    "nested": ["stem.0", "stem.1", "stem", "body.0", "body", "last"],
}


class Nested(nn.Module):
    """Containers that return what their last part returns, a ReLU in place, two resolutions, tokens at the end."""

    def __init__(self, dims):
        super().__init__()
        conv, pool = (nn.Conv2d, nn.MaxPool2d) if dims == 2 else (nn.Conv3d, nn.MaxPool3d)
        torch.manual_seed(0)
        self.stem = nn.Sequential(conv(2, 4, 3, padding=1), nn.ReLU(inplace=True), pool(2))
        self.body = nn.Sequential(conv(4, 6, 3, padding=1), nn.ReLU(), nn.Dropout())
        self.last, self.head = nn.Linear(6, 5), nn.Linear(5, 3)
        self.double()

    def forward(self, x):
        tokens = self.last(self.body(self.stem(x)).flatten(2).transpose(1, 2))
        return self.head(tokens.relu().mean(1))


NETS = {"small": small_net, "nested": Nested}


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", NETS)
def test_all_sites_in_the_order_in_which_they_run(dims, name):
    net, x = NETS[name](dims), small_image(dims)
    before, seen = state_of(net)[:5], []
    handle = net.register_forward_hook(lambda _m, _a, out: seen.append(len(out)))
    maps = pl.explain(net, x, 1, method="grad_cam", site="all", relu=False)
    handle.remove()
    assert [m.provenance.site for m in maps] == SITES[name]
    # one that follows the operations, one for all maps, and once per network one that sees whether it is steady; and one more where the numbers could
    # be probabilities, to see what made them
    assert len(seen) == 3 + ((name, dims) == ("nested", 2))
    assert state_of(net)[:5] == before
    for m in maps:
        alone = pl.explain(net, x, 1, method="grad_cam", site=m.provenance.site, relu=False)
        assert torch.allclose(m.values, alone.values, atol=1e-12)
        assert m.grid == alone.grid
        assert m.score == pytest.approx(alone.score)
        assert (m.provenance.forward, m.provenance.backward) == (1, 1)
        assert float(m.values.abs().max()) > 0
        if "#" not in m.provenance.site and m.provenance.site != "last":
            z, g = inside(net.eval(), x, m.provenance.site)
            slow = sum(float(gc.mean()) * zc for zc, gc in zip(z, g, strict=True))
            assert torch.allclose(m.values[0], slow, atol=1e-12)


@pytest.mark.parametrize("method", ["layer_cam", "grad_cam_plus_plus", "eigen_cam", "score_cam", "ablation_cam", "integrated_gradients"])
def test_every_method_may_look_everywhere(method):
    net, x = Nested(2), small_image(2)
    maps = pl.explain(net, x, 1, method=method, site="all", run=pl.Run(chunk=3))
    assert len(maps) == 6
    for m in maps[::3]:
        alone = pl.explain(net, x, 1, method=method, site=m.provenance.site)
        assert torch.allclose(m.values, alone.values, atol=1e-10)
        assert m.provenance.forward == alone.provenance.forward


def test_images_outermost_then_targets_then_sites():
    net, xs = Nested(2), [small_image(2, s) for s in range(3)]
    maps = pl.explain(net, xs, [0, None], method="hires_cam", site="all")
    sites = SITES["nested"]
    assert [m.provenance.site for m in maps] == sites * 6
    predicted = [int(net.eval()(x[None]).argmax()) for x in xs]
    for i, x in enumerate(xs):
        for t, target in enumerate((0, predicted[i])):
            found = maps[(2 * i + t) * 6 + 3]
            assert found.provenance.target == f"logit({target})"
            assert torch.allclose(found.values, pl.explain(net, x, target, method="hires_cam", site="body.0").values, atol=1e-12)


def test_a_bad_site_in_a_list_is_named():
    with pytest.raises(BadSite, match="'bodi'"):
        pl.explain(Nested(2), small_image(2), 1, method="grad_cam", site=["stem", "bodi"])


class Deaf(nn.Module):
    """A branch that runs and is thrown away."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.head = nn.Conv2d(2, 4, 3).double(), nn.Conv2d(2, 4, 3).double(), nn.Linear(4, 3).double()

    def forward(self, x):
        self.b(x)
        return self.head(self.a(x).relu().mean((2, 3)))


def test_a_site_that_the_score_does_not_hear_gets_zeros_and_a_caveat():
    deaf, heard = pl.explain(Deaf(), small_image(2), 1, method="grad_cam", site="all", relu=False)
    assert not deaf.values.any()
    assert any("zero everywhere" in c for c in deaf.provenance.caveats)
    assert not any("zero everywhere" in c for c in heard.provenance.caveats)


@pytest.mark.parametrize("method", ["grad_cam", "eigen_cam", "smooth(inner=grad_cam(), n=5)"])
def test_many_images_share_chunks(method):
    net, xs = Nested(2).eval(), [small_image(2, s) for s in range(12)]
    alone = [pl.explain(net, x, 1, method=method).values for x in xs]
    fresh, seen = Nested(2).eval(), []
    fresh.register_forward_hook(lambda _m, _a, out: seen.append(len(out)))
    together = pl.explain(fresh, xs, 1, method=method)
    assert max(seen) >= 8
    assert all(torch.allclose(t.values, a, atol=1e-10) for t, a in zip(together, alone, strict=True))


def test_a_chunk_that_was_asked_for_is_kept_to():
    net, seen = Nested(2).eval(), []
    net.register_forward_hook(lambda _m, _a, out: seen.append(len(out)))
    pl.explain(net, [small_image(2, s) for s in range(7)], 1, method="grad_cam", run=pl.Run(chunk=3))
    assert max(seen) == 3


def test_sites_are_compared():
    net, x = Nested(2), small_image(2)
    k = int(net.eval()(x[None]).argmax())
    found = pl.compare(net, x, ["grad_cam", "eigen_cam"], site="all")
    assert [m.provenance.site for m in found.maps] == SITES["nested"] * 2
    assert {m.provenance.target for m in found.maps} == {f"logit({k})"}
