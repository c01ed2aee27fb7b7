"""Where does a network see atrophy in a brain volume? From NIfTI to NIfTI, in the scan's own frame."""

from pathlib import Path

import pellucid as pl

# a scan on disk: here a synthetic one with its masks; bring your own volume, or a folder of DICOM
patient = Path("out/patient")
pl.phantoms.save(pl.phantoms.brain(seed=2, atrophy=True), patient)
scan = pl.read(patient / "image.nii.gz")

net = pl.load_model("phantom:brain_atrophy")  # a small 3D network trained on such volumes
# several methods at once; a length in mm means the same on every scanner
coarse, fine = pl.explain(
    net, scan, [pl.ask("grad_cam", target="atrophy"), pl.ask("occlusion", target="atrophy", window="24mm", stride="24mm")]
)

cause = pl.read(patient / "mask-causal.nii.gz")  # enlarged ventricles, on any grid
for name, why in (("grad_cam", coarse), ("occlusion", fine)):
    print(name, "on a grid of", why.grid.shape)
    print(pl.by_region(why, cause, ["the cause"]))
    print("map:", why.save(f"out/why_brain_{name}.nii.gz"))  # overlay it on the scan in any viewer
