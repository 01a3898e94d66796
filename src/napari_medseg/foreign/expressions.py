"""Expressions in the configs of others ("$len(@labels) + 1"), evaluated by a small closed evaluator.

Numbers, texts, lists, tables, arithmetic, comparisons, one value or another, indices and a few functions of plain
values: that is all. Python parses the text; nothing of it is compiled, imported, called or looked up.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

MAX_TEXT = 1000
"""Characters of an expression."""
_MAX_NODES = 500
_MAX_ITEMS = 10_000
"""Of a list or a text that is made."""
_LARGEST = 10**15
_REFERENCE = re.compile(r"@(\w+(?:(?:#|::)\w+)*)")
_TAKEN = (
    "numbers, texts, lists, arithmetic, comparisons, indices, len, range, min, max, sum, abs, round, int, float, list"
)


class ExpressionError(ValueError):
    """An expression that is not evaluated; the message says why, in words that follow the expression."""


@dataclass(frozen=True)
class FromFile:
    """The contents of a file of tensors, or the value under a key of it: what `torch.load` stands for here."""

    path: str
    key: str = ""


@dataclass(frozen=True)
class _Scope:
    refer: Callable[[str], Any]
    """The value of a reference, by its name without the @."""
    names: Mapping[str, str]
    """{the name in the parsed text: what it refers to}."""
    left: list[int]
    """Nodes that may still be looked at."""


def evaluate(text: str, refer: Callable[[str], Any]) -> Any:
    """The plain value of an expression, without its $. Raises ExpressionError for anything but plain values."""
    if len(text) > MAX_TEXT:
        raise ExpressionError(f"it is longer than {MAX_TEXT} characters")
    names: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        name = f"reference_{len(names)}"
        names[name] = match[1]
        return name

    try:
        tree = ast.parse(_REFERENCE.sub(named, text.strip()), mode="eval")
        value = _value(tree.body, _Scope(refer, names, [_MAX_NODES]))
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise ExpressionError(f"it is no expression ({type(error).__name__})") from None
    except (TypeError, KeyError, IndexError, ZeroDivisionError, OverflowError) as error:
        raise ExpressionError(f"it has no value ({type(error).__name__})") from None
    return value


def _value(node: ast.expr, scope: _Scope) -> Any:
    scope.left[0] -= 1
    if scope.left[0] < 0:
        raise ExpressionError(f"it has more than {_MAX_NODES} parts")
    kind = type(node)
    if kind not in _NODES:
        raise ExpressionError(f"{_called(node)} is not evaluated; taken are {_TAKEN}")
    return _bounded(_NODES[kind](node, scope))


def _called(node: ast.expr) -> str:
    """What a message calls a part that is not taken."""
    return _dotted(node) or {"Lambda": "a function", "ListComp": "a loop"}.get(type(node).__name__, type(node).__name__)


def _bounded(value: Any) -> Any:
    """The value, unless it is too large to be one of a config."""
    if isinstance(value, list | tuple | dict | str) and len(value) > _MAX_ITEMS:
        raise ExpressionError(f"it makes more than {_MAX_ITEMS} items")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise ExpressionError("it makes a number that is too large")
    if isinstance(value, float) and not math.isfinite(value):
        raise ExpressionError("it makes a number that is not finite")
    return value


def _constant(node: ast.Constant, _: _Scope) -> Any:
    if isinstance(node.value, bool | int | float | str | None):
        return node.value
    raise ExpressionError(f"a {type(node.value).__name__} is not evaluated")


def _name(node: ast.Name, scope: _Scope) -> Any:
    if node.id in scope.names:
        return scope.refer(scope.names[node.id])
    raise ExpressionError(f"the name {node.id[:40]} is not evaluated; taken are {_TAKEN}")


def _list(node: ast.List | ast.Tuple, scope: _Scope) -> list[Any]:
    return [_value(item, scope) for item in node.elts]


def _dict(node: ast.Dict, scope: _Scope) -> dict[str, Any]:
    return {str(_value(k, scope)): _value(v, scope) for k, v in zip(node.keys, node.values, strict=True) if k}


_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARISONS: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


def _binary(node: ast.BinOp, scope: _Scope) -> Any:
    kind = type(node.op)
    if kind not in _OPERATORS:
        raise ExpressionError(f"{kind.__name__} is not evaluated; taken are {_TAKEN}")
    left, right = _value(node.left, scope), _value(node.right, scope)
    if kind is ast.Mod and isinstance(left, str):
        raise ExpressionError("a text is not formatted")
    for one, other in ((left, right), (right, left)):
        if (
            kind is ast.Mult
            and isinstance(one, str | list)
            and isinstance(other, int)
            and len(one) * other > _MAX_ITEMS
        ):
            raise ExpressionError(f"it makes more than {_MAX_ITEMS} items")
    return _OPERATORS[kind](left, right)


def _unary(node: ast.UnaryOp, scope: _Scope) -> Any:
    value = _value(node.operand, scope)
    if isinstance(node.op, ast.Not):
        return not value
    if isinstance(node.op, ast.USub) and isinstance(value, int | float):
        return -value
    if isinstance(node.op, ast.UAdd) and isinstance(value, int | float):
        return value
    raise ExpressionError(f"{type(node.op).__name__} is not evaluated here")


def _boolean(node: ast.BoolOp, scope: _Scope) -> Any:
    wants = isinstance(node.op, ast.Or)
    value: Any = not wants
    for part in node.values:
        value = _value(part, scope)
        if bool(value) == wants:
            return value
    return value


def _comparison(node: ast.Compare, scope: _Scope) -> bool:
    left = _value(node.left, scope)
    for kind, right_node in zip(node.ops, node.comparators, strict=True):
        right = _value(right_node, scope)
        if isinstance(kind, ast.Is | ast.IsNot):
            if right is not None and left is not None:
                raise ExpressionError("only None is compared by identity")
            holds = (left is right) == isinstance(kind, ast.Is)
        else:
            holds = _COMPARISONS[type(kind)](left, right)
        if not holds:
            return False
        left = right
    return True


def _choice(node: ast.IfExp, scope: _Scope) -> Any:
    return _value(node.body if _value(node.test, scope) else node.orelse, scope)


def _item(node: ast.Subscript, scope: _Scope) -> Any:
    owner = _value(node.value, scope)
    if isinstance(node.slice, ast.Slice):
        if not isinstance(owner, list | str):
            raise ExpressionError("only lists and texts are cut")
        ends = (node.slice.lower, node.slice.upper, node.slice.step)
        return owner[slice(*(None if end is None else _value(end, scope) for end in ends))]
    key = _value(node.slice, scope)
    if isinstance(owner, FromFile):
        if owner.key or not isinstance(key, str):
            raise ExpressionError("of a file of tensors, the value under one name is taken")
        return FromFile(owner.path, key)
    if not isinstance(owner, list | dict | str):
        raise ExpressionError("it has no items")
    return owner[key]


def _range(*bounds: Any) -> list[int]:
    made = range(*bounds)
    if len(made) > _MAX_ITEMS:
        raise ExpressionError(f"it makes more than {_MAX_ITEMS} items")
    return list(made)


def _number(kind: type) -> Callable[[Any], Any]:
    def made(value: Any) -> Any:
        if isinstance(value, str):
            raise ExpressionError("a text is not made a number")
        return kind(value)

    return made


def _from_file(path: Any) -> FromFile:
    if not isinstance(path, str):
        raise ExpressionError("a file is named by a text")
    return FromFile(path)


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "len": len,
    "range": _range,
    "min": min,
    "max": max,
    "sum": sum,
    "abs": abs,
    "round": round,
    "int": _number(int),
    "float": _number(float),
    "bool": bool,
    "list": list,
    "tuple": list,
    "sorted": sorted,
    "torch.load": _from_file,
    "torch.from_numpy": lambda value: value,
}


def _call(node: ast.Call, scope: _Scope) -> Any:
    name = _dotted(node.func)
    if name not in _FUNCTIONS:
        raise ExpressionError(f"a call of {name[:60] or 'something'} is not evaluated; taken are {_TAKEN}")
    if name != "torch.load" and node.keywords:
        raise ExpressionError(f"{name} takes no names here")
    if any(isinstance(argument, ast.Starred) for argument in node.args):
        raise ExpressionError("a starred argument is not evaluated")
    return _FUNCTIONS[name](*(_value(argument, scope) for argument in node.args))


def _dotted(node: ast.expr) -> str:
    """The name "a.b.c" that a node is; "" where it is something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        owner = _dotted(node.value)
        return f"{owner}.{node.attr}" if owner else ""
    if isinstance(node, ast.Call):
        return _dotted(node.func)
    return ""


_NODES: Mapping[type, Callable[[Any, _Scope], Any]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.List: _list,
    ast.Tuple: _list,
    ast.Dict: _dict,
    ast.BinOp: _binary,
    ast.UnaryOp: _unary,
    ast.BoolOp: _boolean,
    ast.Compare: _comparison,
    ast.IfExp: _choice,
    ast.Subscript: _item,
    ast.Call: _call,
}


def chosen_by_channels(text: str) -> list[tuple[int, int]] | None:
    """[(channel, label)], the strongest first, of a function that makes one label map of regions.

    Such as "lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, 0))" of BraTS; None for other functions.
    """
    if len(text) > MAX_TEXT:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, RecursionError, MemoryError, ValueError):
        return None
    found: list[tuple[int, int]] = []
    node: ast.expr = tree.body if isinstance(tree, ast.Lambda) else tree
    while isinstance(node, ast.Call) and _dotted(node.func) == "torch.where" and len(node.args) == 3:
        channel, label = _channel_of(node.args[0]), node.args[1]
        if channel is None or not isinstance(label, ast.Constant) or type(label.value) is not int:
            return None
        found.append((channel, label.value))
        node = node.args[2]
    ends_in_0 = isinstance(node, ast.Constant) and type(node.value) is int and node.value == 0
    return found if found and ends_in_0 else None


def _channel_of(test: ast.expr) -> int | None:
    """k of "x[k] > 0", "x[[k]] > 0" or "x[k] == 1"."""
    if not isinstance(test, ast.Compare) or not isinstance(test.left, ast.Subscript):
        return None
    index = test.left.slice
    if isinstance(index, ast.List) and len(index.elts) == 1:
        index = index.elts[0]
    if isinstance(index, ast.Constant) and type(index.value) is int and 0 <= index.value < 4096:
        return index.value
    return None
