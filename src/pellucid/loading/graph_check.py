"""Graph check: whether the program inside a .pt2 file is data. It is read by torch with ``eval``, ``exec`` and imports by name.

PyTorch 2.13 hands expressions of sizes to sympy's ``sympify`` (``eval``), compiles functions out of names in the graph (``exec``), finds
operators by dotted names under ``torch`` and enumerations by importing modules. So every string of the file must be one that a plain
network needs: a name, a size, an operator of networks. ``torch._export.serde.serialize`` and ``torch.fx.graph`` are where it is used.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from typing import Any

from pellucid.loading.operators import is_known

NAME = re.compile(r"[\w.@/+\-]*")  # of a tensor, a module or a version: nothing that ends a string or a statement
STACK = re.compile(r"[\w.@,;$\[\]()\- ]*")  # 'key,path,type;key,path,type'
SYMBOL = re.compile(r"z?[sufz][a-z]?\d+")
NUMBER = re.compile(r"-?\d{1,20}(\.\d{0,25})?(e[+-]?\d{1,3})?")
VAST = re.compile(r"e[+-]?[\d_]{4}", re.IGNORECASE)  # an exponent beyond every float: worked out digit by digit
SIZES = re.compile(  # sympy's own, and those of torch.utils._sympy.functions
    r"FloorDiv|ModularIndexing|Where|PythonMod|Mod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|TruncToFloat|TruncToInt|RoundToInt|RoundDecimal"
    r"|ToFloat|Identity|Max|Min|Abs|Pow|Add|Mul|Integer|Float|Rational|Symbol|floor|ceiling|Eq|Ne|Lt|Le|Gt"
    r"|Ge|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|And|Or|Not|Piecewise|ExprCondPair|Tuple|true|false|oo|int_oo|max|min"
)
SIZE_SYNTAX = (ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator,
               ast.unaryop, ast.cmpop)  # fmt: skip
TREES = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
FREE = {"as_string", "as_strings"}  # operator arguments: written with repr()
POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift"}
PRECISE = {"Float", "RoundDecimal"}  # what follows their number says how many digits to work out
LARGEST = 64  # exponent, digits
LONGEST = 20_000  # characters of an expression
EMPTY = ("custom_obj_values", "treespec_namedtuple_fields", "guards_code")


def cleaned(program: Any) -> Any:
    """The program without what only debuggers read: stack traces, and guards (they are compiled, and only check sizes)."""
    if isinstance(program, list):
        return [cleaned(p) for p in program]
    if not isinstance(program, dict):
        return program
    out = {k: cleaned(v) for k, v in program.items()}
    if isinstance(out.get("metadata"), dict) and "target" in out:
        out["metadata"] = {k: v for k, v in out["metadata"].items() if k == "nn_module_stack"}
    if "guards_code" in out:
        out["guards_code"] = []
    return out


def suspects(program: Any) -> list[str]:
    """What in the program is not plain data, in words; empty for an exported network of known operators."""
    return list(dict.fromkeys(_walk(program, "")))


def _walk(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, dict):
        for k, v in value.items():
            if k in EMPTY and v:
                yield f"{k} {str(v)[:60]!r}"
            elif not (NAME.fullmatch(k) or _is_size(k)):
                yield f"the name {k[:60]!r}"
            yield from _walk(v, k)
    elif isinstance(value, list):
        for v in value:
            yield from _walk(v, key)
    elif isinstance(value, str) and not _fits(value, key):
        yield f"{key or 'text'} {value[:60]!r}"


def _fits(text: str, key: str) -> bool:
    if key in FREE:
        return True
    if key in ("target", "as_operator"):
        return is_known(text)
    if key == "expr_str":
        return _is_size(text)
    if key in ("in_spec", "out_spec"):
        return _is_tree(text)
    return (STACK if key == "nn_module_stack" else NAME).fullmatch(text) is not None


def _is_size(text: str) -> bool:
    """An expression of sizes: known functions, symbols, numbers, arithmetic; no attributes, and strings only to name a symbol."""
    if len(text) > LONGEST or VAST.search(text):
        return False
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(isinstance(node, SIZE_SYNTAX) and _is_size_node(node) for node in ast.walk(tree))


def _is_size_node(node: ast.AST) -> bool:
    if _is_power(node):
        return _is_small_power(node)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and (node.func.id not in PRECISE or _is_of_few_digits(node))
    if isinstance(node, ast.Name):
        return (SIZES.fullmatch(node.id) or SYMBOL.fullmatch(node.id)) is not None
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return (SYMBOL.fullmatch(node.value) or NUMBER.fullmatch(node.value)) is not None
    return not isinstance(node, ast.Constant) or isinstance(node.value, (bool, int, float))


def _is_power(node: ast.AST) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, (ast.Pow, ast.LShift))
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in POWERS


def _is_small_power(node: ast.AST) -> bool:
    """A small number as exponent, and no power of a power: 9**9**9**9 would be worked out for years."""
    parts = [node.left, node.right] if isinstance(node, ast.BinOp) else node.args if isinstance(node, ast.Call) else []
    if len(parts) != 2 or any(_is_power(n) for part in parts for n in ast.walk(part)):
        return False
    return _is_small(parts[1])


def _is_of_few_digits(call: ast.Call) -> bool:
    return all(map(_is_small, [*call.args[1:], *(k.value for k in call.keywords)]))


def _is_small(node: ast.AST) -> bool:
    """A small number, written out."""
    numbers = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    plain = not any(isinstance(n, ast.BinOp) for n in ast.walk(node)) and names <= {"Integer", "Rational", "Float"}
    return plain and all(isinstance(n, (int, float)) and abs(n) <= LARGEST for n in numbers)


def _is_tree(text: str) -> bool:
    """How arguments nest: tuples, lists and dicts with plain keys."""
    if not text:
        return True
    try:
        _, tree = json.loads(text)
        return _plain_tree(tree)
    except (ValueError, TypeError, KeyError):
        return False


def _plain_tree(tree: dict[str, Any]) -> bool:
    context = json.loads(tree["context"]) if tree["context"] else None
    keys = context is None or (isinstance(context, list) and all(isinstance(k, (str, int)) and NAME.fullmatch(str(k)) for k in context))
    return tree["type"] in TREES and keys and all(map(_plain_tree, tree["children_spec"]))
