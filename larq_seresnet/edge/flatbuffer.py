"""Reads and writes FlatBuffers, the container format of `.tflite` files.

The reader is our own because a device may have `tflite-runtime`, which ships no schema module, and
because a model file is untrusted: every access is checked, and since a FlatBuffer may refer to the
same bytes any number of times, what is visited is counted and limited to a few times the file.
"""

import functools
import struct
from collections.abc import Mapping, Sequence

import numpy as np

from larq_seresnet.edge.errors import ModelError

# How often a file's bytes may be visited on average. A file that shares what is equal, as this
# project's converter writes them, comes to less than 2; the floor is for the smallest files.
_VISITS, _FLOOR = 4, 1 << 14
_TABLE_BYTES = 16  # what visiting a table counts, whatever its size

_struct = functools.cache(struct.Struct)

_EMPTY = {dtype: np.empty(0, dtype) for dtype in ("<u1", "<u4", "<f4", "<i8")}

_ALIGNMENT = 64  # of what is written; the schema asks for 16, kernels like whole cache lines


class Source:
    """A file's bytes, and how many of them may still be visited."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self._left = _FLOOR + _VISITS * len(data)
        self._layouts: dict[int, tuple[int, ...]] = {}

    def visit(self, size: int) -> None:
        """Counts `size` bytes."""
        self._left -= size
        if self._left < 0:
            raise ModelError("the file is damaged: it uses the same bytes over and over")

    def scalar(self, form: str, position: int) -> int:
        """A number; `form` is its `struct` format."""
        if position >= 0:
            try:
                return _struct(form).unpack_from(self.data, position)[0]
            except struct.error:
                pass
        raise ModelError("the file is damaged: an offset points outside it")

    def layout(self, vtable: int) -> tuple[int, ...]:
        """Where a table's fields are, from its start on; 0 is for one that is absent.

        Writers share the vtables of like tables, so each is read once.
        """
        if vtable not in self._layouts:
            size = self.scalar("<H", vtable)
            if size < 4 or size % 2 or vtable + size > len(self.data):
                raise ModelError("the file is damaged: a table's layout is out of bounds")
            form = f"<{size // 2 - 2}H"
            self._layouts[vtable] = struct.unpack_from(form, self.data, vtable + 4)
        return self._layouts[vtable]


class Table:
    """A FlatBuffers table: a position in a file, whose fields a vtable locates.

    Fields are named by their number in the schema. A field that is absent gives its default.
    """

    __slots__ = ("_layout", "position", "source")

    def __init__(self, source: Source, position: int) -> None:
        source.visit(_TABLE_BYTES)
        self.source = source
        self.position = position
        self._layout = source.layout(position - source.scalar("<i", position))

    def where(self, field: int) -> int | None:
        """The position of a field's inline value."""
        offset = self._layout[field] if field < len(self._layout) else 0
        return self.position + offset if offset else None

    def number(self, field: int, form: str = "<i", default: int = 0) -> int:
        """A scalar; `form` is its `struct` format."""
        position = self.where(field)
        return default if position is None else self.source.scalar(form, position)

    def target(self, field: int) -> int | None:
        """The position that an offset field points to."""
        position = self.where(field)
        return None if position is None else position + self.source.scalar("<I", position)

    def table(self, field: int) -> "Table | None":
        """A table that this one refers to."""
        target = self.target(field)
        return None if target is None else Table(self.source, target)

    def vector(self, field: int, dtype: str) -> np.ndarray:
        """A vector of numbers, without copying or visiting it; empty where it is absent."""
        start, count = self._span(field, int(dtype[-1]))
        return np.frombuffer(self.source.data, dtype, count, start) if count else _EMPTY[dtype]

    def _span(self, field: int, size: int) -> tuple[int, int]:
        """Where a vector's elements of `size` bytes begin, and how many there are."""
        if field >= len(self._layout) or not self._layout[field]:
            return 0, 0
        scalar = self.source.scalar
        position = self.position + self._layout[field]
        target = position + scalar("<I", position)
        count = scalar("<I", target)
        if target + 4 + count * size > len(self.source.data):
            raise ModelError("the file is damaged: a vector does not fit into it")
        return target + 4, count

    def visit(self, field: int, dtype: str) -> np.ndarray:
        """A vector that is going to be copied, by the caller or by the runtime."""
        vector = self.vector(field, dtype)
        self.source.visit(vector.nbytes)
        return vector

    def visit_text(self, field: int) -> None:
        """Counts a string that the runtime is going to copy."""
        self.source.visit(self._span(field, 1)[1])

    def integers(self, field: int) -> tuple[int, ...]:
        """A vector of 32-bit integers."""
        start, count = self._span(field, 4)
        self.source.visit(4 * count)
        return _struct(f"<{count}i").unpack_from(self.source.data, start) if count else ()

    def text(self, field: int) -> str:
        """A string; bytes that are not UTF-8 are replaced."""
        return self.visit(field, "<u1").tobytes().decode(errors="replace")

    def positions(self, field: int) -> list[int]:
        """Where the tables of a vector are."""
        first = (self.target(field) or 0) + 4
        offsets = self.vector(field, "<u4").tolist()
        return [first + 4 * i + offset for i, offset in enumerate(offsets)]

    def tables(self, field: int) -> list["Table"]:
        """A vector of tables."""
        return [Table(self.source, position) for position in self.positions(field)]


class Writer:
    """Writes a file from its end to its start, since FlatBuffers offsets only point forward.

    Whatever is put is known by its distance from the end, which is what the methods return.
    """

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []
        self._size = 0

    def put(self, content: bytes | memoryview, alignment: int = _ALIGNMENT) -> int:
        """Bytes that start at a multiple of `alignment`."""
        padding = -(self._size + len(content)) % alignment
        self._parts += [bytes(padding), content]
        self._size += padding + len(content)
        return self._size

    def data(self, value: np.ndarray) -> int:
        """A vector of bytes: the elements of an array."""
        self.put(np.ascontiguousarray(value).data.cast("B"))
        return self.put(struct.pack("<I", value.nbytes), 4)

    def text(self, value: str) -> int:
        """A string, which ends with a zero byte."""
        content = value.encode()
        return self.put(struct.pack("<I", len(content)) + content + b"\0", 4)

    def integers(self, values: Sequence[int]) -> int:
        """A vector of 32-bit integers."""
        return self.put(struct.pack(f"<I{len(values)}i", len(values), *values), 4)

    def offsets(self, targets: Sequence[int]) -> int:
        """A vector of tables."""
        size = 4 * len(targets)
        first = self._size + size + -self._size % 4  # the distance of the first offset
        places = range(first, first - size, -4)
        values = [place - target for place, target in zip(places, targets, strict=True)]
        return self.put(struct.pack(f"<{len(values) + 1}I", len(values), *values), 4)

    def table(self, numbers: Mapping[int, int], targets: Mapping[int, int | None]) -> int:
        """A table of 32-bit numbers and of offsets, each by the number of its field."""
        fields = sorted({*numbers, *(field for field, target in targets.items() if target)})
        vtable = [0] * (2 + max(fields, default=-1) + 1)
        vtable += [0] * (len(vtable) % 2)
        vtable[:2] = 2 * len(vtable), 4 + 4 * len(fields)
        distance = self._size + -self._size % 4 + 4 * len(fields)
        values = []
        for i, field in enumerate(fields):
            vtable[2 + field] = 4 + 4 * i
            target = targets.get(field)
            values.append(numbers[field] if target is None else distance - 4 * i - target)
        start = 2 * len(vtable)  # the table lies behind its vtable
        content = struct.pack(
            f"<{len(vtable)}Hi{len(values)}I", *vtable, start, *(v & 0xFFFFFFFF for v in values)
        )
        return self.put(content, 4) - start

    def finish(self, root: int, identifier: bytes) -> bytes:
        """The file, whose root is the table `root`."""
        size = self._size + 8
        size += -size % _ALIGNMENT
        self._parts.append(struct.pack("<I4s", size - root, identifier).ljust(size - self._size))
        return b"".join(reversed(self._parts))
