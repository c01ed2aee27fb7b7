"""A decoder as prior: within the codes of images, by its formula, and honest about what it cannot draw."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import pellucid as pl
from pellucid.errors import BadModel, BadParameter
from pellucid.phantoms import cases
from pellucid.phantoms.nets import code_hash
from pellucid.prototypes import autoencoder, generator_prior
from pellucid.prototypes.generator import Codes


class Linear(nn.Module):
    """Images are sums of three shapes; codes are their weights."""

    def __init__(self, dims: int = 2) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        shapes, _ = torch.linalg.qr(torch.randn(8**dims, 3, generator=g))
        self.shapes = nn.Parameter(shapes.T.reshape(3, 1, *((8,) * dims)))

    def decode(self, h: Tensor) -> Tensor:
        return torch.tensordot(h, self.shapes, 1)

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.shapes.flatten(1).T


class Score(nn.Module):
    """A linear score of the image."""

    def __init__(self, way: Tensor) -> None:
        super().__init__()
        self.way = nn.Parameter(way)

    def forward(self, x: Tensor) -> Tensor:
        s = (x * self.way).flatten(1).sum(1)
        return torch.stack([-s, s], 1)


def scans(decoder: Linear, n: int = 40) -> list[Tensor]:
    codes = torch.randn(n, 3, generator=torch.Generator().manual_seed(5))
    return list(decoder.decode(codes).detach())


@pytest.mark.parametrize("dims", [2, 3])
def test_the_code_goes_where_the_score_rises_and_no_further_than_codes_of_images(dims: int) -> None:
    decoder = Linear(dims)
    given = scans(decoder)
    way = torch.tensor([1.0, -1.0, 0.0])
    net = pl.Model(Score(decoder.decode(way[None])[0].detach()), range=(-9.0, 9.0))
    found = generator_prior(net, 1, given, decoder, steps=60, rate=0.3, decay=0.0, clip=0.1)
    code = decoder.encode(found.image.values[None])[0].detach()
    codes = decoder.encode(torch.stack(given)).detach()
    low, high = codes.quantile(0.1, 0), codes.quantile(0.9, 0)
    assert torch.allclose(code[0], high[0], atol=1e-4) and torch.allclose(code[1], low[1], atol=1e-4), (
        "the best code lies in a corner of the box"
    )
    assert low[2] - 1e-5 <= code[2] <= high[2] + 1e-5
    assert found.numbers["codes at their ends"] == pytest.approx(2 / 3) and found.numbers["redrawn"] == pytest.approx(1.0)
    assert found.optima[0].score < found.fooling.score, "nothing holds the other one back"


def test_the_first_step_is_the_formula() -> None:
    decoder = Linear()
    given = scans(decoder)
    way = torch.tensor([1.0, 0.5, -2.0])
    net = pl.Model(Score(decoder.decode(way[None])[0].detach()), range=(-9.0, 9.0))
    found = generator_prior(net, 1, given, decoder, steps=1, rate=0.2, decay=0.01)
    codes = decoder.encode(torch.stack(given)).detach()
    mean, spread = codes.mean(0), codes.std(0)
    g = way * spread
    wanted = mean + 0.2 * spread * g / g.abs().mean()
    assert torch.allclose(decoder.encode(found.image.values[None])[0].detach(), wanted, atol=1e-4)


def test_pull_and_noise() -> None:
    decoder = Linear()
    given = scans(decoder)
    net = pl.Model(Score(decoder.decode(torch.ones(1, 3))[0].detach()), range=(-9.0, 9.0))

    def code(seed: int = 0, **kw: object) -> Tensor:
        found = generator_prior(net, 1, given, decoder, steps=3, rate=0.01, clip=0.0, run=pl.Run(seed=seed), **kw)
        return decoder.encode(found.image.values[None])[0].detach()

    assert torch.equal(code(noise=0.5), code(noise=0.5)) and not torch.allclose(code(noise=0.5), code(1, noise=0.5))
    home = decoder.encode(torch.stack(given)).detach().mean(0)
    zero = code(pull=1.0, encoder=lambda x: torch.zeros(len(x), 3), codes=decoder.encode(torch.stack(given)).detach())
    assert float(zero.norm()) < float((code() - 0).norm()) and float((zero - home).norm()) > 0, "pulled to what the encoder says"


def test_what_the_decoder_cannot_draw_is_told() -> None:
    decoder = Linear()
    outside = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(9))
    outside = outside - decoder.decode(decoder.encode(outside[None]))[0].detach()
    given = [x + w * outside for x, w in zip(scans(decoder), torch.linspace(-1, 1, 40), strict=True)]
    found = generator_prior(pl.Model(Score(outside), range=(-9.0, 9.0)), 1, given, decoder, steps=3)
    assert not found.numbers["redrawn"] > 0.5 and any("hardly" in s or "nan" in s for s in found.sentences())


def test_what_is_missing_is_refused() -> None:
    decoder, net = Linear(), pl.Model(Score(torch.ones(1, 8, 8)))
    given = scans(decoder)
    with pytest.raises(BadParameter, match="neither"):
        generator_prior(net, 1, given, decoder.decode)
    with pytest.raises(BadParameter, match="encoder"):
        generator_prior(net, 1, given, decoder.decode, codes=torch.randn(4, 3), pull=0.1)
    with pytest.raises(BadParameter, match="two images"):
        generator_prior(net, 1, given[:1], decoder)
    with pytest.raises(BadModel, match="draws images of shape"):
        generator_prior(net, 1, given, lambda h: torch.zeros(len(h), 1, 4, 4), codes=torch.randn(4, 3))
    assert Codes.of(torch.arange(11.0)[:, None], 0.1).high.item() == pytest.approx(9.0)


def test_the_autoencoder_that_ships_redraws_phantoms_it_has_not_seen() -> None:
    net, facts = autoencoder("chest")
    weights = Path(pl.prototypes.__file__).parent / "weights" / "chest.safetensors"
    assert weights.stat().st_size < 300_000
    assert facts["code_hash"] == code_hash("chest"), "it was trained on the phantoms as they are drawn"
    x = torch.stack([case.image.values for case in cases("chest", 12, facts["cases"]["held_out_seed"])])
    off = float((net(x).detach() - x).square().mean()) ** 0.5
    assert abs(off - facts["held_out"]["rmse"]) < 0.25 * facts["held_out"]["rmse"]
    with pytest.raises(BadParameter, match="your own decoder"):
        autoencoder("nothing")
