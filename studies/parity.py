"""Write docs/parity.md: how far each method is from its peers, and Blur IG's completeness against PAIR's.

Run from the repository's root: ``python -m studies.parity`` (peers: captum, monai, grad-cam, saliency).
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from pathlib import Path

import torch

PEERS = {"Captum": "captum", "MONAI": "monai", "pytorch-grad-cam": "grad-cam", "PAIR saliency": "saliency"}
TABLE = Path(__file__).parents[1] / "docs" / "parity.md"


def main() -> None:
    """Run every comparison of tests/parity and write the table."""
    warnings.simplefilter("ignore")  # peers'
    torch.set_num_threads(1)
    import tests.conftest  # noqa: F401  (lets grad-cam import a torchvision without its operators)
    from tests.parity import test_cams, test_captum, test_pair

    lines = [
        "# Agreement with other toolkits",
        "",
        "Made by `python -m studies.parity`; the same comparisons are held in `tests/parity`. Small random networks (in-place ReLU, residual",
        "sum; softplus for Blur IG), float64 but for pytorch-grad-cam; *relative* is the largest difference over the peer's largest value.",
        "",
        f"Versions: torch {torch.__version__}, " + ", ".join(f"{name} {version(package)}" for name, package in PEERS.items()) + ".",
        "",
        "| peer | method | dims | max abs diff | relative |",
        "|---|---|---|---|---|",
    ]
    for row in [*test_captum.ROWS, *test_cams.ROWS, *test_pair.ROWS]:
        for dims in row.dims:
            absolute, relative = row.differences(dims)
            lines.append(f"| {row.peer} | {row.what} | {dims}D | {absolute:.1e} | {relative:.1e} |")
            print(lines[-1], flush=True)
    lines += [
        "",
        "Captum's quadrature weights and occlusion maps are float32, whatever the network. PAIR's Blur IG keeps a difference at any number",
        "of steps: its difference quotient looks 0.01 samples ahead.",
        "",
        "## Completeness of Blur IG at equal steps",
        "",
        "|sum of the map - (s(x) - s(blurred x))| / |s(x) - s(blurred x)|, mean over four random ReLU networks, zeros beyond the edge.",
        "",
        "| steps | widest blur (px) | ours | PAIR |",
        "|---|---|---|---|",
    ]
    for max_sigma in (10.0, 30.0):
        for steps in (20, 50, 100):
            mine, peer = test_pair.gaps(steps, max_sigma)
            lines.append(f"| {steps} | {max_sigma:g} | {mine:.1e} | {peer:.1e} |")
            print(lines[-1], flush=True)
    TABLE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
