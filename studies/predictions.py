"""docs/predictions.md: calibration of a trained phantom network before and after a temperature, and what its doubts are worth.

python studies/predictions.py [cases to learn the temperature from] [cases to measure on]
"""

from __future__ import annotations

import base64
import sys
import time
from pathlib import Path

import numpy as np

import pellucid as pl
from pellucid import phantoms
from pellucid.loading import load_model

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from studies.pages import put, stamp  # noqa: E402

from pellucid.report.plots import reliability_plot  # noqa: E402

NET = "fundus_dr"
LEARN, MEASURE = 700_001, 700_002  # seeds that no network was trained on
HEAD = """# Can the answer be trusted, before anyone asks why?

An explanation of a wrong or a random answer explains nothing. What is told here needs the network, images and, for calibration, labels.

```python
image = pl.check_image("scan.nii.gz", training_images)          # image.level: ok, note, refuse; image.remarks: sentences
pairs = pl.find_duplicates([*training_images, *test_images])    # a patient on both sides, also mirrored or at another brightness
found = pl.calibration(net, labels, images, patients=ids)       # found.ece, found.brier, found.nll; found.bins is the diagram
scaled = pl.temperature(net, held_out_labels, held_out_images)  # scaled.value; scaled.model(net) is a network, its weights shared
doubt = pl.uncertainty(net, scan, "mc_dropout", method="grad_cam")  # or "tta", or a list of networks with "ensemble"
trust = pl.trust_score(net, images, training_images, training_labels, site="auto")
```

| question | number | what it is held against | misleads when |
| --- | --- | --- | --- |
| Is the scan what the network knows? | `check_image`: orientation, spacing, field of view, range, sharpness, noise, clipping, empty rim, exchanged brightness, mirrored axes | limits learned from a reference set: a note beyond 1.5, a refusal beyond 5 interquartile ranges | the reference is small, or of one scanner |
| Is it in the training set? | `find_duplicates`: bits of a perceptual hash, correlation of what is left of a thumbnail without its smooth part | 12 of 64 bits, 0.99 | copies are cropped or turned by an angle |
| Do 80 % mean 80 %? | expected calibration error (less most of what chance adds), Brier, negative log-likelihood; intervals over patients | what a perfectly calibrated network would show on as many cases; always stating the prevalence | cases are few; prevalence differs where it is used |
| What makes them mean it? | temperature (also per label, or scale and bias per class) | the loss before | learned from training cases |
| Would a network or image that could as well have been the one say the same? | entropy = expected entropy (noise) + mutual information (disagreement); spread of the answer, of a structure's extent, of the map | the answer without draws | all are wrong together |
| Is it near known cases of the class it names? | trust score: distance to another class / distance to this one | the network's own confidence at telling right from wrong | features do not carry the classes |

MC dropout exchanges the functions of dropout, one mask per call and draw: normalizations stay in evaluation mode, no flag and no random state
is touched, and one draw is one network that can be explained. Test-time augmentation mirrors nothing unless `flips=` allows it: left and
right mean something in a patient."""


def asked(net, n, seed):
    """Logits and labels of phantoms, one image at a time."""
    labels, logits = [], []

    def images():
        for case in phantoms.cases(NET, n, seed):
            labels.append(int(case.labels["stage"]))
            yield case.image

    from pellucid.evidence.predictions.answers import answers

    logits = np.stack([a.logits.numpy() for a in answers(net, images())])
    return logits, labels


def softmax(z):
    p = np.exp(z - z.max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def told(m):
    return f"{m.value:.3f} [{m.low:.3f}, {m.high:.3f}]"


def main(learn=300, measure=500):
    began = time.perf_counter()
    net = load_model(f"phantom:{NET}")
    scaling = pl.temperature(*asked(net, learn, LEARN), classes=net.classes)
    z, y = asked(net, measure, MEASURE)
    both = {"as trained": z, f"temperature {scaling.value:.2f}": z * scaling.scale[0]}
    found = {name: pl.calibration(softmax(v), y, bins=10, classes=net.classes) for name, v in both.items()}
    svg = reliability_plot({n: f.bins for n, f in found.items()}, f"{NET}: the predicted class's probability")
    (ROOT / "docs/figures/reliability.svg").write_bytes(base64.b64decode(svg))
    right = float((z.argmax(1) == y).mean())
    rows = "\n".join(
        f"| {n} | {told(f.ece)} | {f.ece.reference:.3f} | {f.ece.detail['p']:.3f} | {f.ece.status} | {told(f.brier)} | {told(f.nll)} |"
        for n, f in found.items()
    )
    text = f"""![reliability of {NET} before and after a temperature](figures/reliability.svg)

The shipped network for five stages of retinopathy on {measure} phantoms that neither its training nor the temperature has seen ({100 * right:.0f} % right); the
temperature was learned on {learn} others. Points above the diagonal: the network is too modest; below: too sure. Bars
below: how many cases each bin holds. Intervals of points: Wilson, of errors: over patients (jackknife), 95 %.

| probabilities | calibration error | of a calibrated network | p | status | Brier | log-likelihood loss |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

{found["as trained"].ece.text}

{stamp(f"`studies/predictions.py {learn} {measure}`", time.perf_counter() - began, of="evidence")}"""
    put("predictions.md", HEAD, "One network, before and after", text)
    print(text)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
