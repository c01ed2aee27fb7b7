"""Write docs/parity.md: how far each method is from its peers, and Blur IG's completeness against PAIR's.

Run from the repository's root: ``python -m studies.parity`` (peers: the test extra).
"""

from __future__ import annotations

import warnings
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import torch

PEERS = ("captum", "monai", "grad-cam", "saliency", "zennit", "shap", "lime", "torchray")
TABLE = Path(__file__).parents[1] / "docs" / "parity.md"


def rows() -> list:
    """Every row of every file of tests/parity."""
    files = sorted((Path(__file__).parents[1] / "tests" / "parity").glob("test_*.py"))
    modules = [import_module(f"tests.parity.{f.stem}") for f in files]
    return [row for m in modules for row in getattr(m, "ROWS", [])]


def main() -> None:
    """Run every comparison of tests/parity and write the table."""
    warnings.simplefilter("ignore")  # peers'
    torch.set_num_threads(1)
    import tests.conftest  # noqa: F401  (lets grad-cam import a torchvision without its operators)
    from tests.parity import test_pair, test_zennit

    lines = [
        "# Agreement with other toolkits",
        "",
        "Made by `python -m studies.parity`; the same comparisons are held in `tests/parity`. Small random networks (in-place ReLU, residual",
        "sum; softplus where kinks hide a difference), float64 but for pytorch-grad-cam and TorchRay; *relative* is the largest difference over",
        "the peer's largest value.",
        "",
        f"Versions: torch {torch.__version__}, " + ", ".join(f"{name} {version(name)}" for name in PEERS) + ".",
        "",
        "| peer | method | dims | max abs diff | relative |",
        "|---|---|---|---|---|",
    ]
    for row in rows():
        for dims in row.dims:
            absolute, relative = row.differences(dims)
            lines.append(f"| {row.peer} | {row.what} | {dims}D | {absolute:.1e} | {relative:.1e} |")
            print(lines[-1], flush=True)
    for which in test_zennit.COMPOSITES:
        for dims in (2, 3):
            found = [test_zennit.composite_maps(which, kind, dims) for kind in test_zennit.NETS]
            absolute = max(float((a - b).abs().max()) for a, b in found)
            relative = max(float((a - b).abs().max() / b.abs().max()) for a, b in found)
            what = f"lrp(composite='{which}') on {', '.join(test_zennit.NETS)}"
            lines.append(f"| zennit | {what} | {dims}D | {absolute:.1e} | {relative:.1e} |")
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
