"""Checks FlexBuffers, in which custom operators have their options."""

from larq_seresnet.edge.errors import ModelError
from larq_seresnet.edge.flatbuffer import Source

# Types of values that lie within the map: null, integers, float, bool. Others lie elsewhere.
_INLINE = {0, 1, 2, 3, 26}
_MAP = 9
_FORMS = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}  # by the width
_MOST_KEYS = 100


def check_map(data: bytes) -> None:
    """Refuses what is no map of numbers, or points outside itself.

    Runtimes read the options of their own custom operators without such a check.

    Raises:
        ModelError: Says so.
    """
    source = Source(data)
    end = len(data)
    root_type, root_width = source.scalar("<B", end - 2), source.scalar("<B", end - 1)
    width = 1 << (root_type & 3)
    if root_type >> 2 != _MAP or root_width not in _FORMS:
        raise ModelError("the file is damaged: an operator's options are no map")

    def number(position: int, width: int) -> int:
        return source.scalar(_FORMS[width], position)

    def follow(position: int, width: int) -> int:
        return position - number(position, width)

    entries = follow(end - 2 - root_width, root_width)
    count, key_width = number(entries - width, width), number(entries - 2 * width, width)
    if key_width not in _FORMS:
        raise ModelError("the file is damaged: an operator's options have no keys")
    keys = follow(entries - 3 * width, width)
    if number(keys - key_width, key_width) != count or count > _MOST_KEYS:
        raise ModelError("the file is damaged: an operator's options have other keys than values")
    for i in range(count):
        key = follow(keys + i * key_width, key_width)
        kind = number(entries + count * width + i, 1)
        number(entries + i * width, width)
        if key < 0 or data.find(b"\0", key) < 0 or kind >> 2 not in _INLINE:
            raise ModelError("the file is damaged: an operator's options are no numbers")
