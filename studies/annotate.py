"""Writes a section of docs/annotate.md: IoU of a small detector against the reader's effort, trained on proposals, corrected proposals, and boxes by hand.

``python studies/annotate.py fundus_dme [cases] [seeds] [most]``
"""

import base64
import sys
import time

from studies.pages import ROOT, put, stamp

from pellucid.annotation import exercise, phantom_cases
from pellucid.report.plots import effort_plot

TITLES = {"fundus_dme": "Macular edema in the fundus", "chest": "Effusion in the chest", "brain_atrophy": "Atrophy in the brain (3D)"}


def main(kind, count=24, seeds=3, most=20):
    began = time.process_time()
    training, held_out = (phantom_cases(kind, count, seed=s, most=most) for s in (101, 202))
    found = exercise(training, held_out, seeds=seeds, steps=80)
    alone = "_strongest" if most == 1 else ""
    picture = ROOT / "docs" / "figures" / f"annotate_{kind}{alone}.svg"
    picture.write_bytes(base64.b64decode(effort_plot(found.as_dict()["arms"], "")))
    f = found.facts
    text = f"""
{count} phantoms for training and {count} held out, a finding in half of each; proposals: `{f["made"]}`, where the shipped network says at least 0.5. {seeds} seeds.

{found.table()}

{chr(10).join("- " + line for line in found.said)}

![IoU on held-out cases against the reader's effort](figures/{picture.name})

*{stamp("studies/annotate.py", time.process_time() - began, " of one core", of="evidence")}*
"""
    head = (ROOT / "docs" / "annotate.md").read_text().split("\n## ")[0]
    put("annotate.md", head, TITLES[kind] + (", the strongest proposal alone" if alone else ""), text)
    print(found.table(), *found.said, sep="\n")


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
