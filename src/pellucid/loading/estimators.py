"""Estimators: fitted scikit-learn models from files, with as much trust as the user gives. A pickle is a program; a .skops file says what it holds."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

from pellucid.errors import BadFile, BadParameter, Untrusted
from pellucid.loading.trust import Trust, as_trust, at_least, reading, whole

PICKLES = (".pkl", ".pickle", ".joblib")
KNOWN = ("numpy", "scipy", "sklearn")  # their compiled parts (a tree's nodes, say) are not checked when read: a crafted file can crash
SHOWN = 4


def holds_estimator(path: str | Path) -> bool:
    """Whether a file's name says that it holds an estimator."""
    return Path(path).suffix.lower() in (*PICKLES, ".skops")


def load_estimator(path: str | Path, *, trust: Trust = "data") -> Any:
    """A fitted estimator from a ``.skops`` file (data), or a pickle or joblib file (which runs what it says: ``trust="pickle"``).

    Args:
        path: the file.
        trust: how far the user's word reaches; a ``.skops`` file with types that skops does not trust (those
            of trees are among them) needs ``"code"`` if they are scikit-learn's own, else ``"pickle"``.

    Returns:
        The estimator, and the sha256 of its file as ``estimator, digest``.

    Raises:
        Untrusted: the user's word is missing. Nothing of the file has run.
        BadFile: missing, corrupt, or another kind of file.
        BadParameter: a .skops file without skops.
    """
    trust, path = as_trust(trust), Path(path)
    if not holds_estimator(path):
        raise BadFile(f"an estimator in {path}", f"a file {path.suffix!r}", f"Use .skops, or {', '.join(PICKLES)}.")
    if path.suffix.lower() == ".skops":
        return _skops(path, trust)
    data, digest = whole(path)
    at_least(
        trust, "pickle", "a pickled estimator runs what its file says, so it", path, safe="Save it with skops.io.dump(model, 'model.skops')"
    )
    with reading(str(path), "Its classes must be importable here, in the versions that wrote it."):
        if path.suffix.lower() == ".joblib":
            import joblib

            return joblib.load(io.BytesIO(data)), digest
        return pickle.loads(data), digest


def _skops(path: Path, trust: Trust) -> Any:
    try:
        import skops.io as skops
    except ImportError as error:
        raise BadParameter(f"read {path}", "no skops", "pip install 'pellucid[estimators]' (skops).") from error
    data, digest = whole(path)
    with reading(str(path), "Is it complete, and written by skops.io.dump?"):
        strange = list(skops.get_untrusted_types(data=data))
        ours = all(name.split(".")[0] in KNOWN for name in strange)
        if strange and not (trust == "pickle" or (trust == "code" and ours)):
            named = ", ".join(strange[:SHOWN]) + (f" and {len(strange) - SHOWN} more" if len(strange) > SHOWN else "")
            word = "trust='code' (--trust)" if ours else "trust='pickle' (--unsafe-pickle)"
            raise Untrusted(
                "an estimator of types that skops trusts",
                f"{path} (sha256 {digest}), which holds {named}",
                f"If you know who made it, pass {word}.",
            )
        return skops.loads(data, trusted=strange), digest
