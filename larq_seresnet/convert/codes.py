"""How few bits hold a kernel, so that it is restored exactly.

Quantizers leave few values in each output channel (batch norm, which is folded into the kernel,
gives each its own scale): +s and -s, which take a bit; 0 as well, or four values, which take two
bits; up to 16, which take four. Where these are whole multiples of a step, the step is stored, 4
bytes a channel, and otherwise the values themselves, as DoReFa's, which rounding has moved off
their grid. Whole multiples up to 127 take 8 bits.
"""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

_MOST = 16  # values of a channel that a table holds
_LARGEST = 127  # of the multiples
_SIGNS = (1, -1)

Levels: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Code:
    """A kernel as small integers.

    Attributes:
        bits: 1, 2, 4 or 8.
        codes: For each element of the kernel which of the levels it is, uint8; with a table
            (channels, elements of each).
        levels: What the codes stand for; with a table, its columns.
        scale: Of each channel, float32; it broadcasts to the kernel.
        table: The values of each channel, (channels, levels), float32.
    """

    bits: int
    codes: np.ndarray
    levels: Levels
    scale: np.ndarray | None = None
    table: np.ndarray | None = None

    @property
    def is_signs(self) -> bool:
        """Whether these are +1 and -1, times a scale."""
        return self.levels == _SIGNS

    @property
    def nbytes(self) -> int:
        """What the file has to hold, but for operators."""
        parts = [part.nbytes for part in (self.scale, self.table) if part is not None]
        return -(-self.codes.size * self.bits // 8) + sum(parts)


def encode(
    kernel: np.ndarray, axis: int, step: np.ndarray | None = None
) -> tuple[Code | None, int]:
    """The smallest code that restores a kernel exactly, if there is one.

    Args:
        kernel: Of float32.
        axis: Of the output channels.
        step: Of each channel, where it is known.

    Returns:
        The code, and how many values the channel with the most has.
    """
    rows = np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)
    broadcast = [1] * kernel.ndim
    broadcast[axis] = len(rows)
    magnitude = np.abs(rows)
    scale = magnitude.max(axis=1)
    if (magnitude == scale[:, None]).all():
        negative = np.signbit(kernel).astype(np.uint8)
        return Code(1, negative, _SIGNS, scale.reshape(broadcast)), min(2, rows.shape[1])
    values, indices = [], []
    for row in rows:
        found, index = np.unique(row, return_inverse=True)
        values.append(found)
        indices.append(index)
        if len(found) > 2 * _LARGEST + 1 and step is None:
            return None, max(map(len, values))
    codes = []
    multiples = _multiples(values, step)
    if multiples:
        whole, scales = multiples
        levels, found = np.unique(np.concatenate(whole), return_inverse=True)
        starts = np.cumsum([0, *map(len, whole[:-1])])
        chosen = np.stack(
            [found[start:][index] for start, index in zip(starts, indices, strict=True)]
        )
        shape = np.moveaxis(kernel, axis, 0).shape
        moved = np.moveaxis(chosen.reshape(shape), 0, axis)
        scale = np.array(scales, np.float32).reshape(broadcast)
        codes.append(Code(_bits(len(levels)), moved.astype(np.uint8), tuple(levels), scale))
    most = max(map(len, values))
    if most <= _MOST:
        table = np.stack([np.pad(found, (0, most - len(found)), "edge") for found in values])
        chosen = np.stack(indices).astype(np.uint8)
        codes.append(Code(_bits(most), chosen, tuple(range(most)), table=table))
    return min(codes, key=lambda code: code.nbytes, default=None), most


def encode_integers(kernel: np.ndarray) -> Code | None:
    """The code of an int8 kernel of few values, which are its levels; `None` where it has many."""
    levels, codes = np.unique(kernel, return_inverse=True)
    if len(levels) > _MOST:
        return None
    return Code(_bits(len(levels)), codes.reshape(kernel.shape).astype(np.uint8), tuple(levels))


def _bits(levels: int) -> int:
    return next(bits for bits in (1, 2, 4, 8) if levels <= 2**bits)


def _multiples(
    values: list[np.ndarray], step: np.ndarray | None
) -> tuple[list[np.ndarray], list[np.float32]] | None:
    """The values of each channel as whole multiples of a step, and the steps."""
    whole, steps = [], []
    for i, found in enumerate(values):
        candidate = _step(found) if step is None else step[i]
        if candidate is None:
            return None
        multiple = np.rint(found / candidate)
        # The largest value tells the step best; the next numbers, since it was rounded.
        last = np.argmax(np.abs(multiple))
        near = found[last] / multiple[last] if multiple[last] else np.float32(1)
        near = np.float32(near)
        tries = (candidate, near, np.nextafter(near, np.inf), np.nextafter(near, -np.inf))
        exact = (s for s in tries if (np.float32(multiple) * np.float32(s) == found).all())
        chosen = next(exact, None)
        if chosen is None or np.abs(multiple).max() > _LARGEST:
            return None
        whole.append(multiple.astype(np.int64))
        steps.append(np.float32(chosen))
    return whole, steps


def _step(values: np.ndarray) -> np.float32 | None:
    """The smallest distance of a channel's magnitudes from each other and from 0.

    It is negative where no value is positive, so that the multiples of 0 and -s are 0 and 1.
    """
    if not np.isfinite(values).all():
        return None
    gaps = np.diff(np.unique(np.abs([0, *values]).astype(np.float32)))
    step = np.float32(gaps.min() if gaps.size else 1)
    return -step if gaps.size and values.max() <= 0 else step
