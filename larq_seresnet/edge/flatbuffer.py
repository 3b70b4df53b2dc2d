"""Reads FlatBuffers, the container format of `.tflite` files, with every access checked.

A device may have nothing but `tflite-runtime` and numpy, and a model file is untrusted input: hence
a reader of our own, in which a damaged file can cause a `ModelError` and nothing else.
"""

import struct
from collections.abc import Iterator

import numpy as np

from larq_seresnet.edge.errors import ModelError


class Table:
    """A FlatBuffers table: a position in `data`, whose fields a vtable locates.

    Fields are named by their number in the schema. A field that is absent gives its default.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self.data = data
        self.position = position
        vtable = position - self._scalar("<i", position)
        size = self._scalar("<H", vtable)
        if size < 4 or size % 2 or vtable + size > len(data):
            raise ModelError("the file is damaged: a table's layout is out of bounds")
        self._fields = struct.unpack_from(f"<{size // 2 - 2}H", data, vtable + 4)

    @classmethod
    def root(cls, data: bytes) -> "Table":
        """The table that a whole file consists of."""
        if len(data) < 8:
            raise ModelError("the file is too short")
        return cls(data, int.from_bytes(data[:4], "little"))

    def _scalar(self, form: str, position: int) -> int:
        if position < 0 or position + struct.calcsize(form) > len(self.data):
            raise ModelError("the file is damaged: an offset points outside it")
        return struct.unpack_from(form, self.data, position)[0]

    def where(self, field: int) -> int | None:
        """The position of a field's inline value."""
        offset = self._fields[field] if field < len(self._fields) else 0
        return self.position + offset if offset else None

    def number(self, field: int, form: str = "<i", default: int = 0) -> int:
        """A scalar; `form` is its `struct` format."""
        position = self.where(field)
        return default if position is None else self._scalar(form, position)

    def target(self, field: int) -> int | None:
        """The position that an offset field points to."""
        position = self.where(field)
        return None if position is None else self._follow(position)

    def _follow(self, position: int) -> int:
        return position + self._scalar("<I", position)

    def table(self, field: int) -> "Table | None":
        """A table that this one refers to."""
        target = self.target(field)
        return None if target is None else Table(self.data, target)

    def vector(self, field: int, dtype: str) -> np.ndarray:
        """A vector of numbers, without copying; empty where it is absent."""
        target = self.target(field)
        if target is None:
            return np.empty(0, dtype)
        count = self._scalar("<I", target)
        if target + 4 + count * np.dtype(dtype).itemsize > len(self.data):
            raise ModelError("the file is damaged: a vector does not fit into it")
        return np.frombuffer(self.data, dtype, count, target + 4)

    def text(self, field: int) -> str:
        """A string; bytes that are not UTF-8 are replaced."""
        return self.vector(field, "<u1").tobytes().decode(errors="replace")

    def tables(self, field: int) -> list["Table"]:
        """A vector of tables."""
        return list(self._tables(field))

    def _tables(self, field: int) -> Iterator["Table"]:
        offsets = self.vector(field, "<u4")
        target = self.target(field)
        for i, offset in enumerate(offsets.tolist()):
            assert target is not None
            yield Table(self.data, target + 4 + 4 * i + offset)
