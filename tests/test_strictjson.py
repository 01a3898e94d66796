from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg import strictjson

documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(documents)
def test_reads_what_json_writes(document: object) -> None:
    assert strictjson.parse(json.dumps(document)) == document


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param('{"a": NaN}', "NaN is no JSON number", id="NaN"),
        pytest.param("[-Infinity]", "-Infinity is no JSON number", id="infinity"),
        pytest.param('{"a": 1, "b": 2, "a": 3}', "the key 'a' is there twice", id="key twice"),
        pytest.param('{"x": {"a": 1, "a": 1}}', "the key 'a' is there twice", id="key twice inside"),
        pytest.param("[" * 100_000, "nested too deeply", id="deep list"),
        pytest.param('{"a":' * 100_000, "nested too deeply", id="deep object"),
        pytest.param("1" * 5000, "digits", id="very long number"),
        pytest.param("{banana", "line 1 column 2", id="not JSON"),
        pytest.param("", "line 1 column 1", id="nothing"),
    ],
)
def test_refuses(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        strictjson.parse(text)


def test_many_keys_are_compared_in_linear_time() -> None:
    text = "{" + ",".join(f'"{k}":0' for k in range(200_000)) + ',"199999":0}'
    with pytest.raises(ValueError, match="'199999' is there twice"):
        strictjson.parse(text)
