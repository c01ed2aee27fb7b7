"""Decision trees to read: nodes with impurity, gain, cases and class shares; rules in words; a picture of our own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pellucid.effects.curve import Effect
from pellucid.effects.impurity import entropy, gain, gini
from pellucid.effects.tree_svg import draw_tree
from pellucid.effects.words import amount, counted, joined
from pellucid.errors import BadFile, BadModel, BadParameter
from pellucid.explanation import Evidence, Provenance
from pellucid.files import put
from pellucid.findings import signed_rows
from pellucid.table import Table

Look = Literal["light", "dark", "auto"]
CITE = "Breiman et al. 1984, Classification and regression trees"
IMPURITIES = {"gini": "Gini", "entropy": "entropy", "log_loss": "entropy"}
NONE = -1


@dataclass(frozen=True)
class Node:
    """One node: the question ``column <= threshold`` (``left`` is yes, ``right`` no; -1: a leaf), what it holds, and what the question gains.

    ``cases`` are as the tree counts them, ``weight`` as it weighs them (a forest's tree counts a case as often as it was drawn); ``shares`` are of
    classes, empty in a regression; ``value`` is the share of the predicted class, or the mean. ``below``: nodes under it that are not shown.
    """

    number: int
    depth: int
    column: str
    threshold: float
    left: int
    right: int
    cases: int
    weight: float
    shares: tuple[float, ...]
    value: float
    answer: str
    impurity: float
    gain: float
    below: int

    @property
    def leaf(self) -> bool:
        return self.left == NONE

    @property
    def question(self) -> str:
        return "" if self.leaf else f"{self.column} ≤ {amount(self.threshold)}"


@dataclass(frozen=True, eq=False)
class Tree(Effect):
    """A decision tree, down to a depth: its nodes in the order yes before no, the root first.

    ``criterion`` says what the impurity is; ``classes`` are names, empty in a regression; ``depth`` and ``leaves`` are those of the whole tree.

    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from pellucid.effects import tree
    >>> fitted = DecisionTreeClassifier(criterion="entropy").fit([[0], [1], [2], [3]], [0, 0, 1, 1])
    >>> seen = tree(fitted, names=["size"], classes=["small", "large"])
    >>> seen.nodes[0].question, seen.nodes[0].gain
    ('size ≤ 1.5', 1.0)
    >>> print(*seen.rules(), sep="\\n")
    If size ≤ 1.5: small (100 % of 2 cases).
    If size > 1.5: large (100 % of 2 cases).
    """

    kind = "tree"
    nodes: tuple[Node, ...]
    criterion: str
    classes: tuple[str, ...]
    names: tuple[str, ...]
    depth: int
    leaves: int
    evidence: Evidence
    network: str
    notes: tuple[str, ...]
    provenance: Provenance = field(repr=False)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def node(self, number: int) -> Node:
        """A node by its number in the tree.

        Raises:
            BadParameter: none of those shown.
        """
        for node in self.nodes:
            if node.number == number:
                return node
        raise BadParameter("a node that is shown", repr(number), f"There are {len(self.nodes)}; show more: depth=.")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that are asked about in the nodes shown, the first asked first."""
        return tuple(dict.fromkeys(n.column for n in sorted(self.nodes, key=lambda n: n.depth) if not n.leaf and not n.below))

    def rules(self) -> tuple[str, ...]:
        """A sentence for each end of the tree as it is shown; several questions about one column are one."""
        return tuple(self._rules(self.nodes[0], {}))

    def _rules(self, node: Node, bounds: dict[str, tuple[float, float]]) -> Iterator[str]:
        if node.leaf or node.below:
            cut = f" Not shown: {node.below} nodes below." if node.below else ""
            said = f"If {joined([_bounded(c, *b) for c, b in bounds.items()])}: " if bounds else "Always: "
            yield f"{said}{node.answer} ({self._told(node)}).{cut}"
            return
        low, high = bounds.get(node.column, (-np.inf, np.inf))
        yield from self._rules(self.node(node.left), {**bounds, node.column: (low, min(high, node.threshold))})
        yield from self._rules(self.node(node.right), {**bounds, node.column: (max(low, node.threshold), high)})

    def _told(self, node: Node) -> str:
        who = counted(node.cases)
        return f"{node.value:.0%} of {who}".replace("%", " %") if self.classes else f"mean of {who}"

    def table(self) -> Table:
        """A row for each node."""
        columns = (
            "node",
            "depth",
            "question",
            "yes",
            "no",
            "cases",
            self.criterion,
            "gain",
            "answer",
            *(f"share of {c}" for c in self.classes),
        )
        rows = [
            (
                n.number,
                n.depth,
                n.question,
                *((None, None) if n.leaf else (n.left, n.right)),
                n.cases,
                n.impurity,
                n.gain,
                n.answer,
                *n.shares,
            )
            for n in self.nodes
        ]
        return Table(columns, tuple(rows))

    def sentences(self) -> tuple[str, ...]:
        """What the tree asks, and what it does not show."""
        root, shown = self.nodes[0], max(n.depth for n in self.nodes)
        if root.leaf:
            return (f"The tree asks nothing: all {root.cases} cases get {root.answer}.",)
        asked = f"The tree asks at most {self.depth} questions of a case and has {self.leaves} ends; it was fitted on {root.cases} cases."
        unit = " bits" if self.criterion == "entropy" else ""
        first = f"Its first question is whether {root.question}: {self.criterion} falls by {root.gain:.3g}{unit} from {root.impurity:.3g}."
        used = f"It asks about {len(self.columns)} of {len(self.names)} columns: {joined(list(self.columns[:6]))}{' ...' if len(self.columns) > 6 else ''}."
        cut = f"Shown to depth {shown}: {sum(n.below for n in self.nodes)} nodes lie below." if any(n.below for n in self.nodes) else ""
        limit = "Another column may split nearly as well: a tree fitted on other cases may ask other questions and say the same."
        return tuple(s for s in (asked, first, used, cut, limit) if s)

    def svg(self, theme: Look = "auto") -> str:
        """The picture as SVG text, from left to right; ``auto`` follows the reader's light or dark setting."""
        return draw_tree(self, theme)

    def figure(self, path: str | Path | None = None, *, theme: Any = "auto") -> str:
        """The SVG text, written to ``path`` (``.svg``) if one is given; ``report.write_findings`` makes a page of it, with rules and numbers.

        Raises:
            BadFile: another suffix, or no such folder.
        """
        drawn = self.svg(theme)
        if path is None:
            return drawn
        path = Path(path)
        if path.suffix.lower() != ".svg" or not path.parent.is_dir():
            got = f"suffix {path.suffix!r}" if path.parent.is_dir() else f"no folder {path.parent}"
            raise BadFile(f"write a tree to {path}", got, "Use .svg, in a folder that is there.")
        put(path, drawn)
        return drawn


def _bounded(column: str, low: float, high: float) -> str:
    if np.isinf(low):
        return f"{column} ≤ {amount(high)}"
    return f"{column} > {amount(low)}" if np.isinf(high) else f"{amount(low)} < {column} ≤ {amount(high)}"


def tree(
    model: Any, *, names: Sequence[str] | None = None, classes: Sequence[str] = (), depth: int = 4, number: int = 0,
) -> Tree:  # fmt: skip
    """A decision tree as it can be read and drawn, down to a depth.

    Args:
        model: a fitted scikit-learn tree, or a forest or boosting model of them.
        names: of the columns; None: those it was fitted on, else ``x0``, ``x1``, ...
        classes: names of the classes, in the model's order; none: the model's own.
        depth: questions from the root that are shown; a node whose children are not says how many nodes lie below.
        number: which tree of a forest.

    Returns:
        A Tree; impurity is worked out anew from the class shares (entropy in bits), and so is every gain.

    Raises:
        BadModel: no fitted tree, one of several outputs, or a forest without that tree.
        BadParameter: names or classes that do not fit.

    **Source**: Breiman et al. 1984; entropy H = - sum p log2 p, Gini 1 - sum p².
    """
    one = _one(model, number)
    inner = one.tree_
    if inner.n_outputs != 1:
        raise BadModel("a tree of one output", f"{inner.n_outputs}", "Fit a tree for each.")
    if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
        raise BadParameter("depth is a whole number from 0 on", repr(depth), "Write depth=4.")
    columns = _names(one, model, names)
    criterion = str(getattr(one, "criterion", "squared_error"))
    kinds = _classes(one, model, classes) if inner.value.shape[2] > 1 or hasattr(one, "classes_") else ()
    nodes = tuple(_read(inner, columns, kinds, criterion, depth))
    told = IMPURITIES.get(criterion, "variance" if criterion in ("squared_error", "friedman_mse") else criterion.replace("_", " "))
    shape = np.column_stack([inner.feature, inner.threshold, inner.n_node_samples])
    said = signed_rows(f"tree(depth={depth}, criterion={criterion!r}, number={number})", shape.astype(np.float64), cite=CITE)
    return Tree(nodes, told, kinds, columns, int(inner.max_depth), int(inner.n_leaves), Evidence(), "", (), said)


def _one(model: Any, number: int) -> Any:
    """A single tree."""
    if not hasattr(model, "tree_") and hasattr(model, "estimators_"):
        every = np.ravel(np.asarray(model.estimators_, dtype=object))
        if not 0 <= number < len(every):
            raise BadModel(f"a tree from 0 to {len(every) - 1}", repr(number), "Count from 0.")
        model = every[number]
    if not hasattr(model, "tree_"):
        raise BadModel(
            "a fitted scikit-learn tree, or a forest of them", type(model).__name__, "Fit it; of another model ask surrogate(...)."
        )
    return model


def _names(one: Any, whole: Any, names: Sequence[str] | None) -> tuple[str, ...]:
    count = one.tree_.n_features
    known = getattr(one, "feature_names_in_", getattr(whole, "feature_names_in_", None))
    found = tuple(str(n) for n in (names if names is not None else known if known is not None else [f"x{k}" for k in range(count)]))
    if len(found) != count:
        raise BadParameter(f"a name for each of {count} columns", f"{len(found)}", "Give as many.")
    return found


def _classes(one: Any, whole: Any, classes: Sequence[str]) -> tuple[str, ...]:
    own = getattr(whole, "classes_", getattr(one, "classes_", ()))
    found = tuple(str(c) for c in (classes if len(classes) else own))
    if len(found) != one.tree_.value.shape[2]:
        raise BadParameter(f"a name for each of {one.tree_.value.shape[2]} classes", f"{len(found)}", "Give as many, in the model's order.")
    return found


def _read(inner: Any, columns: Sequence[str], classes: Sequence[str], criterion: str, most: int) -> Iterator[Node]:
    """Nodes from the root, yes before no, without recursion: a tree may be deep."""
    heavy, left, right = inner.weighted_n_node_samples, inner.children_left, inner.children_right
    below = _below(left, right)

    def shares(k: int) -> tuple[float, ...]:
        row = inner.value[k, 0]
        return tuple(float(v) for v in row / row.sum()) if classes else ()

    def impurity(k: int) -> float:
        by = {"gini": gini, "entropy": entropy, "log_loss": entropy}.get(criterion)
        return by(shares(k)) if by is not None and classes else float(inner.impurity[k])

    waiting = [(0, 0)]
    while waiting:
        k, depth = waiting.pop()
        leaf, folded = left[k] == NONE, depth >= most and left[k] != NONE
        won = 0.0 if leaf else gain(impurity(k), [(float(heavy[c]), impurity(c)) for c in (left[k], right[k])])
        own = shares(k)
        best = int(np.argmax(own)) if classes else 0
        value = own[best] if classes else float(inner.value[k, 0, 0])
        yield Node(
            k, depth, "" if leaf else columns[inner.feature[k]], 0.0 if leaf else float(inner.threshold[k]), int(left[k]), int(right[k]),
            int(inner.n_node_samples[k]), float(heavy[k]), own, value, classes[best] if classes else amount(value), impurity(k), won,
            int(below[k]) if folded else 0,
        )  # fmt: skip
        if not leaf and not folded:
            waiting += [(int(right[k]), depth + 1), (int(left[k]), depth + 1)]


def _below(left: Any, right: Any) -> Any:
    """How many nodes lie below each; children come after their parents."""
    found = np.zeros(len(left), dtype=int)
    for k in range(len(left) - 1, -1, -1):
        if left[k] != NONE:
            found[k] = 2 + found[left[k]] + found[right[k]]
    return found
