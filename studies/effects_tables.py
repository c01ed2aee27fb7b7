"""Pictures of docs/effects.md, of tables: ``python -m studies.effects_tables [folder]`` (half a minute; the tree needs Chromium)."""

import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from pellucid.effects import ale_pair, forest_importance, partial_dependence, surrogate, tree

OUT = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/figures")
COLUMNS = ("worst radius", "worst texture", "worst concave points", "mean symmetry", "mean smoothness")


def cancer():
    """Columns by name, labels, and a forest fitted on every other case."""
    data = load_breast_cancer()
    x = data.data[:, [list(data.feature_names).index(c) for c in COLUMNS]]
    words = data.target_names[data.target].astype(str)
    forest = RandomForestClassifier(60, min_samples_leaf=3, random_state=0).fit(x[::2], words[::2])
    return x, words, forest


def beside(names, out):
    """Pictures side by side, as one."""
    found = [Image.open(OUT / n).convert("RGB") for n in names]
    whole = Image.new("RGB", (sum(f.width for f in found), max(f.height for f in found)), "white")
    for k, f in enumerate(found):
        whole.paste(f, (sum(g.width for g in found[:k]), 0))
    whole.save(OUT / out, quality=88)
    for n in names:
        (OUT / n).unlink()


def shot(page, out):
    """A page of ours as a picture."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": 1310, "height": 100}, device_scale_factor=1.3)
        view.goto(page.resolve().as_uri())
        view.locator("svg").screenshot(path=OUT / "tree.png")
        browser.close()
    Image.open(OUT / "tree.png").convert("RGB").save(OUT / out, quality=88)
    (OUT / "tree.png").unlink()


def main():
    """Four pictures."""
    x, words, forest = cancer()
    rows = dict(zip(COLUMNS, x[1::2].T))
    partial_dependence(forest, rows, "worst radius", target="malignant").figure(OUT / "a.png")
    two = np.random.default_rng(0).multivariate_normal([0, 0], [[1, 0.9], [0.9, 1]], 600)
    twins = {"size": two[:, 0], "volume": two[:, 1]}
    partial_dependence(lambda r: r[:, 0] * r[:, 1], twins, "size", ends=(0.01, 0.99)).figure(OUT / "b.png")
    beside(("a.png", "b.png"), "effects_curves.webp")
    seen = tree(DecisionTreeClassifier(criterion="entropy", random_state=0).fit(x[::2], words[::2]), names=COLUMNS, depth=4)
    page = OUT / "tree.svg"
    seen.figure(page, theme="light")
    shot(page, "effects_tree.webp")
    page.unlink()
    noisy = {**dict(zip(COLUMNS, x.T)), "number of the file": np.random.default_rng(1).permutation(len(x)).astype(float)}
    table = np.stack(list(noisy.values()), axis=1)
    wide = RandomForestClassifier(60, random_state=0).fit(table[::2], words[::2])
    first, rest = ({k: v[part] for k, v in noisy.items()} for part in (slice(0, None, 2), slice(1, None, 2)))
    forest_importance(wide, rest, words[1::2], fitted_on=(first, words[::2]), target="malignant").figure(OUT / "effects_forest.webp")
    data = load_diabetes(as_frame=True, scaled=False)
    fitted = surrogate(lambda r: np.asarray(r)[:, 2] * np.asarray(r)[:, 8], data.data[list(data.data.columns)], form="linear", columns=3)
    fitted.figure(OUT / "a.png")
    ale_pair(lambda r: np.asarray(r)[:, 2] * np.asarray(r)[:, 8], data.data, "bmi", "s5", grid=8).figure(OUT / "b.png")
    beside(("a.png", "b.png"), "effects_product.webp")


if __name__ == "__main__":
    main()
