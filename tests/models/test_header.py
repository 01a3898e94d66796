from __future__ import annotations

import io
import json
import struct
import tracemalloc
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from napari_medseg.models.header import MAX_HEADER_BYTES, Entry, SafetensorsHeader, read_header


def raw(header: object, data: bytes = b"", *, length: int | None = None) -> bytes:
    """A file of that header (anything but bytes as JSON) and data; `length` to lie about the header's."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def row(dtype: Any = "F32", shape: Any = (2, 3), offsets: Any = (0, 24)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def read(blob: bytes, size: int | None = None) -> SafetensorsHeader:
    return read_header(io.BytesIO(blob), len(blob) if size is None else size)


DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "I64": torch.int64,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
entries = st.builds(
    Entry, dtype=st.sampled_from(sorted(DTYPES)), shape=st.lists(st.integers(0, 4), max_size=4).map(tuple)
)


texts = st.dictionaries(
    st.text(), st.text(), min_size=1
)  # safetensors 0.8 writes no JSON for neither tensors nor texts


@given(tensors=st.dictionaries(st.text(min_size=1), entries, max_size=5), metadata=texts)
def test_reads_what_safetensors_writes(tensors: dict[str, Entry], metadata: dict[str, str]) -> None:
    tensors.pop("__metadata__", None)
    state = {name: torch.zeros(entry.shape, dtype=DTYPES[entry.dtype]) for name, entry in tensors.items()}
    header = read(safetensors.torch.save(state, metadata=metadata))
    assert header.tensors == tensors
    assert header.metadata == metadata


DEEP = b'{"a":' + b"[" * 1_000_000
HOSTILE = [
    pytest.param(b"", r"it is empty \(0 bytes\)", id="empty"),
    pytest.param(b"abc", "does not fit in 3 bytes", id="three bytes"),
    pytest.param(b"plain text, not a model", "does not fit", id="text"),
    pytest.param(b"PK\3\4" + bytes(100), "PyTorch checkpoints", id="zip"),
    pytest.param(b"\x80\x02}q\0." + bytes(100), "a Python pickle", id="pickle"),
    pytest.param(b"\x93NUMPY\x01\0" + bytes(100), "a numpy file", id="npy"),
    pytest.param(b"\x1f\x8b\x08" + bytes(100), "a gzip file", id="gzip"),
    pytest.param(raw({}, length=2**62), "does not fit", id="header of 2^62 bytes"),
    pytest.param(raw({}, length=0), "does not fit", id="header of no bytes"),
    pytest.param(raw(b"{banana"), "header is not JSON", id="not JSON"),
    pytest.param(raw(b"\xff\xfe{}"), "header is not JSON", id="not UTF-8"),
    pytest.param(raw(b'{"a": NaN}'), "NaN is no JSON number", id="NaN"),
    pytest.param(raw(DEEP), "nested too deeply", id="deep"),
    pytest.param(raw(b"[]"), "not a JSON object", id="list"),
    pytest.param(raw(b'{"a":{},"a":{}}'), "the key 'a' is there twice", id="tensor twice"),
    pytest.param(raw({"__metadata__": {"a": 1}}), "not a table of texts", id="metadata number"),
    pytest.param(raw({"__metadata__": "a"}), "not a table of texts", id="metadata text"),
    pytest.param(raw({"a": 3}), "'a' needs exactly dtype, shape and data_offsets", id="row is a number"),
    pytest.param(raw({"a": {**row(), "b": 1}}, bytes(24)), "needs exactly", id="unknown key"),
    pytest.param(raw({"a": row(dtype="X9")}, bytes(24)), "has dtype 'X9'", id="unknown dtype"),
    pytest.param(raw({"a": row(dtype=[])}, bytes(24)), "has dtype", id="dtype is a list"),
    pytest.param(raw({"a": row(shape=(-2, -3))}, bytes(24)), "shape of at most 8 sizes >= 0", id="negative shape"),
    pytest.param(raw({"a": row(shape=(2.0, 3))}, bytes(24)), "shape of at most 8 sizes", id="fractional shape"),
    pytest.param(raw({"a": row(shape=(True, 6))}, bytes(24)), "shape of at most 8 sizes", id="shape of truth"),
    pytest.param(raw({"a": row(shape=[1] * 9)}, bytes(24)), "shape of at most 8 sizes", id="nine axes"),
    pytest.param(raw({"a": row(shape="23")}, bytes(24)), "shape of at most 8 sizes", id="shape is a text"),
    pytest.param(raw({"a": row(shape=(10**6, 10**6))}, bytes(24)), "does not fit the size", id="shape too large"),
    pytest.param(raw({"a": row(shape=(2**62, 4))}, bytes(24)), "does not fit the size", id="shape overflows"),
    pytest.param(raw({"a": row(offsets=(24, 0))}, bytes(24)), "does not fit the size", id="offsets backwards"),
    pytest.param(raw({"a": row(offsets=(-8, 16))}, bytes(24)), "two data offsets >= 0", id="offset negative"),
    pytest.param(raw({"a": row(offsets=(0, 24, 48))}, bytes(24)), "two data offsets", id="three offsets"),
    pytest.param(
        raw({"a": row(offsets=(2**70, 2**70 + 24))}, bytes(24)), "two data offsets", id="offset beyond 64 bit"
    ),
    pytest.param(raw({"a": row(offsets=(1000, 1024))}, bytes(24)), "'a' has data offset 1000 where 0", id="outside"),
    pytest.param(raw({"a": row(), "b": row(offsets=(8, 32))}, bytes(32)), "'b' has data offset 8", id="overlap"),
    pytest.param(raw({"a": row(), "b": row(offsets=(32, 56))}, bytes(56)), "offset 32 where 24", id="hole"),
    pytest.param(raw({"a" * 9999: row(offsets=(9, 33))}, bytes(33)), "has data offset 9", id="hole, long name"),
    pytest.param(raw({"a": row()}, bytes(8)), "need 24 bytes after the header but 8", id="cut"),
    pytest.param(raw({"a": row()}, bytes(99)), "need 24 bytes after the header but 99", id="bytes left over"),
]


@pytest.mark.parametrize(("blob", "reason"), HOSTILE)
def test_refuses(blob: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        read(blob)
    assert len(str(refused.value)) < 400, "a line, whatever the file holds"


@pytest.mark.parametrize(
    ("blob", "size", "reason"),
    [
        pytest.param(raw({}, length=MAX_HEADER_BYTES + 1), 2**40, "header of 10485761 bytes is too long", id="long"),
        pytest.param(raw(b'{"a":[' + b"{}," * (10**6) + b"{}]}"), None, "needs exactly", id="a million objects"),
        pytest.param(raw(DEEP), None, "nested too deeply", id="deep"),
        pytest.param(raw({"a" * 10**6: row(shape=(9, 9))}), None, "does not fit the size", id="long name"),
    ],
)
def test_refuses_in_little_memory(blob: bytes, size: int | None, reason: str) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=reason) as refused:
        read(blob, size)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 * 2**20
    assert len(str(refused.value)) < 400
