"""The examples run as they stand, in a few seconds, and write what they say."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WRITES = {
    "fundus_2d": ["why_fundus.png", "why_fundus.html"],
    "brain_3d": ["patient/image.nii.gz", "why_brain_grad_cam.nii.gz", "why_brain_occlusion.nii.gz"],
}


def test_every_example_is_run_here():
    assert {p.stem for p in EXAMPLES.glob("*.py")} == set(WRITES)


@pytest.mark.parametrize("name", WRITES)
def test_example(name, tmp_path, monkeypatch, capsys):
    path = EXAMPLES / f"{name}.py"
    assert len(path.read_text().splitlines()) < 25, "an example fits on one screen"
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    told = capsys.readouterr().out
    cause = [line.split("|") for line in told.splitlines() if "the cause" in line]
    assert cause and all(c[-2].strip() == "1" for c in cause), "the cause is the densest region"
    for file in WRITES[name]:
        assert (tmp_path / "out" / file).stat().st_size > 1000


def test_the_first_block_of_the_readme(tmp_path, monkeypatch):
    """As printed, with a network that was trained on images from 0 to 1: its probabilities are those of the network itself."""
    import torch
    from PIL import Image

    import pellucid as pl
    from pellucid.loading import load_model

    text = (EXAMPLES.parent / "README.md").read_text()
    block = text.split("```python\n", 1)[1].split("```", 1)[0]
    shipped = load_model("phantom:fundus_dme")
    eye = pl.phantoms.fundus(3, dme=True).image
    monkeypatch.chdir(tmp_path)
    Image.fromarray((eye.values * 255).round().byte().permute(1, 2, 0).numpy()).save("photograph.png")

    class Trained(torch.nn.Module):  # as if the recipe had been (x - 0.35) / 0.25 for x from 0 to 1
        def __init__(self):
            super().__init__()
            self.net = shipped.module

        def forward(self, x):
            return self.net(x * 0.25 + 0.35)

    said = {"module": Trained().eval()}
    exec(compile(block.replace("steps=64", "steps=8").replace("resize=224", f"resize={eye.values.shape[-1]}"), "README.md", "exec"), said)
    assert said["why"].probabilities == pytest.approx(pl.explain(shipped, eye, "DME", method="saliency").probabilities, abs=0.02)
    assert not any("units of normalize" in c for c in said["why"].provenance.caveats)
    assert (tmp_path / "why.nii.gz").exists()
