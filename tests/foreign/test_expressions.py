"""The closed evaluator: equal to Python on plain values, and nothing else is evaluated."""

from __future__ import annotations

import ast
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.foreign.expressions import ExpressionError, FromFile, chosen_by_channels, evaluate

SMALL = st.integers(-50, 50)
NUMBERS = st.recursive(
    SMALL.map(str),
    lambda inner: (
        st.builds(
            lambda a, operator, b: f"({a} {operator} {b})",
            inner,
            st.sampled_from(["+", "-", "*", "//", "%", "<", "==", "and", "or"]),
            inner,
        )
        | st.builds(lambda a, b, c: f"({a} if {b} else {c})", inner, inner, inner)
        | st.lists(inner, min_size=1, max_size=3).map(lambda items: f"max([{', '.join(items)}])")
        | st.lists(inner, max_size=3).map(lambda items: f"len([{', '.join(items)}])")
    ),
    max_leaves=8,
)


def refuse(name: str) -> Any:
    raise AssertionError(f"nothing refers to {name}")


@given(NUMBERS)
def test_it_computes_as_python_does(text: str) -> None:
    try:
        expected = eval(text, {"__builtins__": {"max": max, "len": len}})  # of our own grammar
    except ZeroDivisionError:
        with pytest.raises(ExpressionError, match="it has no value"):
            evaluate(text, refuse)
        return
    assert evaluate(text, refuse) == expected


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_any_text_is_a_plain_value_or_refused(text: str) -> None:
    try:
        value = evaluate(text, lambda name: [1, 2])
    except ExpressionError:
        return
    assert isinstance(value, bool | int | float | str | list | dict | FromFile | None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1.5, 1.5] if @highres else [3.0, 3.0]", [1.5, 1.5]),
        ("len(@names) + @count", 3),
        ("@root + '/models/' + @file", "./models/m.pt"),
        ("@a + @b", [1, 2, 3]),
        ("torch.load(@root, map_location=torch.device('cuda'))['code']", FromFile(".", "code")),
        ("list(range(1, 4))", [1, 2, 3]),
        ("@names['spleen'] == 1 and not @count > 4", True),
        ("@a[0:1] * 3", [1, 1, 1]),
    ],
)
def test_what_bundles_write(text: str, value: object) -> None:
    known = {
        "highres": True,
        "names": {"spleen": 1, "background": 0},
        "count": 1,
        "root": ".",
        "file": "m.pt",
        "a": [1, 2],
        "b": [3],
    }
    assert evaluate(text, known.__getitem__) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("__import__('os').system('true')", "__import__.system is not evaluated"),
        ("open('/etc/passwd')", "a call of open is not evaluated"),
        ("(lambda: 1)()", "not evaluated"),
        ("[x for x in [1]]", "a loop is not evaluated"),
        ("'a'.__class__", "not evaluated"),
        ("9 ** 9 ** 9", "Pow is not evaluated"),
        ("[0] * 99999999", "more than 10000 items"),
        ("range(10 ** 9)", "Pow is not evaluated"),
        ("range(99999999)", "more than 10000 items"),
        ("1e308 * 10", "not finite"),
        ("'%s' % 5", "a text is not formatted"),
        ("int('9' * 9)", "a text is not made a number"),
        ("(" * 300 + ")" * 300, "it is no expression"),
        ("-" * 900 + "1", "it has more than|it is no expression"),
        ("1" * 1001, "longer than 1000"),
        ("f'{1}'", "JoinedStr is not evaluated"),
        ("x := 1", "it is no expression"),
        ("torch.load(5)", "a file is named by a text"),
    ],
)
def test_what_is_refused_is_named(text: str, told: str) -> None:
    with pytest.raises(ExpressionError, match=told):
        evaluate(text, refuse)


def test_one_label_map_of_regions() -> None:
    brats = "lambda x: torch.where(x[[2]] > 0, 4, torch.where(x[[0]] > 0, 1, torch.where(x[[1]] > 0, 2, 0)))"
    assert chosen_by_channels(brats) == [(2, 4), (0, 1), (1, 2)]
    for other in ("lambda x: x[1:]", "lambda x: torch.where(f(x), 1, 0)", "torch.where(", "lambda x: 1"):
        assert chosen_by_channels(other) is None
    assert isinstance(ast.parse(brats, mode="eval").body, ast.Lambda)
