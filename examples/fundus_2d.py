"""Why does a network see macular edema in a fundus photograph, and how far can the map be trusted?"""

from pathlib import Path

import pellucid as pl

eye = pl.phantoms.fundus(seed=7, dme=True)  # a synthetic patient: what causes the disease is known
net = pl.load_model("phantom:fundus_dme")  # a small network trained on such patients

why = pl.explain(net, eye.image, target="DME", method=pl.integrated_gradients(steps=32), evidence="quick")
print(f"P(DME) = {why.probabilities[1]:.2f}; the map is {why.evidence.verdict}: {why.evidence.reasons[0]}")

# masks say where the cause lies; on a patient these could be a reader's boxes
regions = eye.masks["causal"].long() + 2 * (eye.masks["vessels"] & ~eye.masks["causal"]).long()
print(pl.by_region(why, regions, ["the cause", "vessels"]))

out = Path("out")
out.mkdir(exist_ok=True)
print("map:", why.save(out / "why_fundus.png"))  # orange speaks for DME, blue against it
print("report:", pl.report.write_report(out / "why_fundus.html", [why]))
