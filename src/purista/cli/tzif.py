"""Compiled time zones in the format TZif (RFC 8536), read with care.

``zoneinfo`` trusts such a file: it waits for ever for the end of one that was cut off, and some
damaged ones crash the process. So what it relies on is looked at before.
"""

from __future__ import annotations

import io
import re
import struct
from zoneinfo import ZoneInfo


def zone_from_bytes(content: bytes, name: str) -> ZoneInfo | None:
    """Return the zone that a file's content describes, under a name; None when it is not sound."""
    if not _is_sound(content):
        return None
    try:
        return ZoneInfo.from_file(io.BytesIO(content), key=name)
    except (ValueError, OverflowError):
        return None


_MAGIC = b"TZif"
_HEADER = struct.Struct(">4s c 15x 6I")
_KIND = struct.Struct(">i ? B")
_INSTANT = {4: ">i", 8: ">q"}
_LAST_LINE = re.compile(rb"\n[^\n]*\n")
_LONGEST_OFFSET = 24 * 3600


def _is_sound(content: bytes) -> bool:
    """Whether all is there that the headers count, and each index leads somewhere (section 3)."""
    start = 0
    for size in (4, 8):
        header = content[start : start + _HEADER.size]
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            return False
        _, version, ut, standard, leap, times, kinds, letters = _HEADER.unpack(header)
        start += _HEADER.size
        end = start + times * (size + 1) + kinds * 6 + letters
        block, start = content[start:end], end + leap * (size + 4) + standard + ut
        if version == b"\0":
            break
    else:
        if _LAST_LINE.match(content, start) is None:
            return False
    return start <= len(content) and _is_sound_block(block, size, times, kinds, letters)


def _is_sound_block(block: bytes, size: int, times: int, kinds: int, letters: int) -> bool:
    instants = [each for (each,) in struct.iter_unpack(_INSTANT[size], block[: times * size])]
    used = block[times * size : times * (size + 1)]
    described = block[times * (size + 1) : times * (size + 1) + kinds * _KIND.size]
    return (
        kinds > 0
        and instants == sorted(instants)
        and all(each < kinds for each in used)
        and all(
            abs(offset) < _LONGEST_OFFSET and name < letters
            for offset, _, name in _KIND.iter_unpack(described)
        )
        and block.endswith(b"\0")
    )
