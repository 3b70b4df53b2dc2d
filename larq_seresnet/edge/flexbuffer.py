"""Checks and writes FlexBuffers, in which custom operators have their options."""

import struct
from collections.abc import Mapping

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.flatbuffer import Source

_FORMS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}  # by the width
_SIGNED = {1: "<b", 2: "<h", 4: "<i", 8: "<q"}
_REAL = {2: "<e", 4: "<f", 8: "<d"}
# How a value is stored in the map itself, by its type: null, integers, float, bool.
_NUMBERS = {0: _FORMS, 1: _SIGNED, 2: _FORMS, 3: _REAL, 26: _FORMS}
_INT, _MAP, _MOST_KEYS = 1, 9, 100


def read_numbers(data: bytes) -> dict[bytes, float]:
    """A map of numbers by their names.

    Runtimes read the options of their own custom operators without any check.

    Raises:
        ModelError: It is another thing, or points outside itself.
    """
    source = Source(data)
    end = len(data)

    def number(position: int, width: int) -> int:
        return source.scalar(_FORMS[width], position)

    def follow(position: int, width: int) -> int:
        return position - number(position, width)

    try:
        root_type, root_width = number(end - 2, 1), number(end - 1, 1)
        width, entries = 1 << (root_type & 3), follow(end - 2 - root_width, root_width)
        count, key_width = number(entries - width, width), number(entries - 2 * width, width)
        keys = follow(entries - 3 * width, width)
        names = number(keys - key_width, key_width)
        if root_type >> 2 != _MAP or count != names or count > _MOST_KEYS:
            raise ValueError
        found: dict[bytes, float] = {}
        for i in range(count):
            start = follow(keys + i * key_width, key_width)
            form = _NUMBERS[number(entries + count * width + i, 1) >> 2][width]
            if start < 0:
                raise ValueError
            found[data[start : data.index(b"\0", start)]] = source.scalar(form, entries + i * width)
    except (KeyError, ValueError):
        raise ModelError("the file is damaged: an operator's options are no numbers") from None
    return found


def write_numbers(values: Mapping[str, int]) -> bytes:
    """A map of 32-bit integers, as a custom operator's options."""
    keys, places = sorted(values), {}
    content = b""
    for key in keys:
        places[key] = len(content)
        content += key.encode() + b"\0"
    content += bytes(-len(content) % 4)
    first = len(content) + 4  # of the vector of keys; offsets point back
    offsets = [first + 4 * i - places[key] for i, key in enumerate(keys)]
    content += struct.pack(f"<{len(keys) + 1}I", len(keys), *offsets)
    content += struct.pack("<3I", len(content) - first, 4, len(keys))  # the map: its keys, ...
    start = len(content)
    content += struct.pack(f"<{len(keys)}i", *(values[key] for key in keys))  # ... values, ...
    content += bytes([_INT << 2 | 2] * len(keys))  # ... and types, of 4 bytes each
    return content + struct.pack("<IBB", len(content) - start, _MAP << 2 | 2, 4)
