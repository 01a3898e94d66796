"""Mutations of valid files: bytes flipped, cut, repeated, moved; numbers made extreme; JSON and text edited as such.

A mutation takes a generator and the bytes of a file, and gives other bytes. The same generator gives the same bytes.
"""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from numpy.random import Generator

Mutation = Callable[[Generator, bytes], bytes]

#: bytes at the start of a file that are changed more often than others: headers are there
_HEAD = 600
_NUMBERS = (
    *(b"-1", b"0", b"2", b"65536", b"99999999999999999999", b"nan", b"inf", b"1e400", b"-1e-320", b"0x10", b""),
    *(b"\xff\xff\xff\x7f", b"\x00\x00\xc0\x7f", b"\xff" * 8, b"\x00" * 8),
)
_FIELDS = tuple(
    struct.pack(order + kind, value)
    for order in "<>"
    for kind, values in (
        ("h", (0, 1, -1, 2**15 - 1, -(2**15))),
        ("i", (0, 1, -1, 2**31 - 1, -(2**31), 348, 540)),
        ("q", (0, -1, 2**63 - 1)),
        ("f", (0.0, -1.0, 1e38, 1e-40, float("nan"), float("inf"))),
    )
    for value in values
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 0.5, -0.0, 1e308, float("nan"), float("inf")),
    *("", "1", "nan", "..", "../../x", "/dev/zero", "\x00", "\ud800", "x" * 3000, "größer", "a\nb"),
    *([], {}, [[]], [None], [-1], [0, 0, 0], [1e308] * 3, [2**40] * 3, {"name": None}, {"a": {"a": {"a": []}}}),
)


def flip(rng: Generator, content: bytes) -> bytes:
    """Some bits of the head, or of any bytes."""
    changed = bytearray(content)
    reach = len(content) if rng.random() < 0.3 else min(len(content), _HEAD)
    for at in rng.integers(0, reach, rng.integers(1, 9)):
        changed[at] ^= 1 << rng.integers(8)
    return bytes(changed)


def cut(rng: Generator, content: bytes) -> bytes:
    return content[: rng.integers(len(content))]


def repeat(rng: Generator, content: bytes) -> bytes:
    start, length = rng.integers(len(content)), rng.integers(1, 200)
    return content[:start] + content[start : start + length] * 3 + content[start + length :]


def move(rng: Generator, content: bytes) -> bytes:
    """A piece is copied over another place."""
    start, end, length = (*rng.integers(len(content), size=2), rng.integers(1, 100))
    return content[:end] + content[start : start + length] + content[end + length :]


def number(rng: Generator, content: bytes) -> bytes:
    """A digit of a text becomes something extreme."""
    digits = [i for i, c in enumerate(content[:3000]) if 48 <= c < 58]
    at = int(rng.choice(digits)) if digits else 0
    return content[:at] + _NUMBERS[rng.integers(len(_NUMBERS))] + content[at + 1 :]


def field(rng: Generator, content: bytes) -> bytes:
    """A number of a binary header becomes something extreme."""
    value = _FIELDS[rng.integers(len(_FIELDS))]
    at = int(rng.integers(max(1, min(len(content), _HEAD) // 2))) * 2
    return content[:at] + value + content[at + len(value) :]


def line(rng: Generator, content: bytes) -> bytes:
    """A line of a text header is doubled, dropped, or given the value of another."""
    lines = content[:3000].split(b"\n")
    one, other = rng.integers(len(lines), size=2)
    kind = rng.integers(3)
    if kind == 0:
        lines.insert(int(other), lines[one])
    elif kind == 1:
        del lines[one]
    else:
        key, mark, _ = lines[one].partition(b"=" if b"=" in lines[one] else b":")
        lines[one] = key + mark + lines[other].partition(mark or b"=")[2]
    return b"\n".join(lines) + content[3000:]


def json_value(rng: Generator, content: bytes) -> bytes:
    """A value somewhere in a JSON document becomes another one, or goes; flipped bits where it is no JSON."""
    try:
        document = json.loads(content)
    except ValueError:
        return flip(rng, content)
    places = list(_places(document))
    if not places:
        return b"null"
    container, key = places[rng.integers(len(places))]
    if isinstance(container[key], str) and container[key][:1] == "{" and rng.random() < 0.8:  # JSON in JSON
        container[key] = json_value(rng, container[key].encode()).decode(errors="replace")
    elif rng.random() < 0.1:
        del container[key]
    elif rng.random() < 0.3:
        other, at = places[rng.integers(len(places))]
        container[key] = json.loads(json.dumps(other[at]))
    else:
        container[key] = _VALUES[rng.integers(len(_VALUES))]
    return json.dumps(document).encode()


def inside_gzip(mutation: Mutation) -> Mutation:
    """A mutation of what a gzip file holds, whose checksum is right again; flipped bits where it is no gzip file."""

    def mutated(rng: Generator, content: bytes) -> bytes:
        try:
            inner = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return flip(rng, content)
        return gzip.compress(mutation(rng, inner) or b"\0", 1, mtime=0)

    return mutated


def behind_length(mutation: Mutation) -> Mutation:
    """A mutation of the header of a safetensors file, whose stated length is right again."""

    def mutated(rng: Generator, content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = mutation(rng, content[8 : 8 + length] or b"{}")
        return len(header).to_bytes(8, "little") + header + content[8 + length :]

    return mutated


BINARY: tuple[Mutation, ...] = (flip, flip, cut, repeat, move, number, field, field, field)
TEXT: tuple[Mutation, ...] = (flip, flip, cut, repeat, move, number, number, number, line, line)
JSON: tuple[Mutation, ...] = (json_value,) * 9 + (flip, cut, repeat, number)
GZIP: tuple[Mutation, ...] = (*map(inside_gzip, BINARY), flip, cut, repeat)
SAFETENSORS: tuple[Mutation, ...] = (behind_length(json_value),) * 6 + (behind_length(number), flip, cut, repeat)


def mutate(rng: Generator, content: bytes, mutations: tuple[Mutation, ...]) -> bytes:
    """One, two or three mutations one after the other; never nothing at all."""
    for _ in range(rng.integers(1, 4)):
        content = mutations[rng.integers(len(mutations))](rng, content) or b"\0"
    return content


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a document."""
    if isinstance(document, dict | list):
        for key, value in list(document.items() if isinstance(document, dict) else enumerate(document)):
            yield document, key
            yield from _places(value)
