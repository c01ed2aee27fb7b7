"""Agreement with marcotcr's LIME for images: its own draws, its own fit, the same segments."""

import numpy as np
import pytest
import torch
from tests.parity.nets import TARGET, Row, cases, image, name, net
from tests.reference.cuts import blocks

import pellucid as pl

lime_image = pytest.importorskip("lime.lime_image", reason="lime is not installed")
SAMPLES, SEED = 60, 5


def _flat():
    """A 2D network for three channels (theirs takes color images alone), and an image."""
    made, x = net(2), image(2)

    class Two(torch.nn.Module):
        def forward(self, v):
            return made(v[:, :2] + 0.3 * v[:, 2:])

    return Two().eval(), torch.cat([x, x[:1].flip(-1)])


def _draws(rows, parts, random):
    """The draws that theirs makes from its seed."""
    drawn = np.random.RandomState(SEED).randint(0, 2, rows * parts).reshape(rows, parts)
    drawn[0] = 1
    return torch.from_numpy(drawn).bool()


def whole(selection, features, fill):
    """Theirs from end to end."""

    def maps(dims):
        made, x = _flat()
        labels = blocks(x.shape[1:], 4)

        def scores(batch):
            with torch.no_grad():
                return made(torch.from_numpy(batch).movedim(-1, 1)).numpy()

        explainer = lime_image.LimeImageExplainer(feature_selection=selection, random_state=SEED)
        found = explainer.explain_instance(
            x.movedim(0, -1).numpy(), scores, labels=(TARGET,), top_labels=None, hide_color=fill, num_features=features or 10**5,
            num_samples=SAMPLES, segmentation_fn=lambda _: labels.numpy(), random_seed=0,
        )  # fmt: skip
        theirs = torch.zeros(16, dtype=torch.float64)
        for k, w in found.local_exp[TARGET]:
            theirs[k] = w
        return _ours(made, x, labels, selection, features, fill), theirs

    return maps


def fitted(selection, features):
    """Their fit of our samples, in two and three dimensions."""

    def maps(dims):
        made, x = net(dims), image(dims)
        labels = blocks(x.shape[1:], 4 if dims == 2 else 3)
        why = _explained(made, x, labels, selection, features, None)
        rows = torch.repeat_interleave(why.trace["samples"], torch.tensor(why.trace["times"]), 0).double().numpy()
        scores = torch.repeat_interleave(torch.tensor(why.trace["scores"], dtype=torch.float64), torch.tensor(why.trace["times"])).numpy()
        distances = 1 - np.sqrt(rows.mean(1))
        theirs = torch.zeros(rows.shape[1], dtype=torch.float64)
        base = lime_image.LimeImageExplainer(random_state=SEED).base
        for k, w in base.explain_instance_with_data(rows, scores[:, None], distances, 0, features or 10**5, selection)[1]:
            theirs[k] = w
        return torch.tensor(why.trace["weights"], dtype=torch.float64), theirs

    return maps


def _explained(made, x, labels, selection, features, fill):
    ours = {"lasso_path": "lasso", "highest_weights": "ridge"}[selection]
    return pl.explain(made, x, TARGET, method="lime", segments=labels, samples=SAMPLES, selection=ours, features=features, fill=fill)


def _ours(made, x, labels, selection, features, fill):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(pl.lime.fn.__globals__, "coins", _draws)
        why = _explained(made, x, labels, selection, features, fill)
    return torch.tensor(why.trace["weights"], dtype=torch.float64)


ROWS = [
    Row("lime", "lime, all segments, own means", whole("highest_weights", None, None), 1e-9, (2,)),
    Row("lime", "lime, ridge selection of 5", whole("highest_weights", 5, None), 1e-9, (2,)),
    Row("lime", "lime, K-Lasso of 7, constant fill", whole("lasso_path", 7, 0.2), 1e-9, (2,)),
    Row("lime", "lime's fit, ridge selection of 6", fitted("highest_weights", 6), 1e-9),
    Row("lime", "lime's fit, K-Lasso of 6", fitted("lasso_path", 6), 1e-9),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("row", "dims"), cases(ROWS), ids=name)
def test_lime(row, dims):
    row.check(dims)
