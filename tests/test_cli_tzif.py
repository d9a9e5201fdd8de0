import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import tzdata
from hypothesis import given
from hypothesis import strategies as st

from purista.cli.tzif import zone_from_bytes

ZONES = Path(tzdata.__file__).parent / "zoneinfo"
BERLIN = (ZONES / "Europe/Berlin").read_bytes()
SUMMER, WINTER = datetime(2027, 7, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)


def block(
    size: int, *, version: bytes, used: bytes = b"\0\1", offset: int = 5400, name: int = 0
) -> bytes:
    """Write a block of RFC 8536: two changes, in 2000 and 2010, of two kinds named A and B."""
    header = struct.pack(">4sc15x6I", b"TZif", version, 0, 0, 0, 2, 2, 4)
    form = {4: ">2i", 8: ">2q"}[size]
    instants = struct.pack(form, 946684800, 1262304000)
    kinds = struct.pack(">i?B", 3600, False, 2) + struct.pack(">i?B", offset, True, name)
    return header + instants + used + kinds + b"A\0B\0"


def offset(zone_bytes: bytes, at: datetime) -> timedelta | None:
    zone = zone_from_bytes(zone_bytes, "Test/Zone")
    assert zone is not None
    assert zone.key == "Test/Zone"
    return at.astimezone(zone).utcoffset()


def test_every_zone_of_the_package_is_sound():
    names = (ZONES.parent / "zones").read_text().split()
    assert len(names) > 400
    assert [
        each for each in names if zone_from_bytes((ZONES / each).read_bytes(), each) is None
    ] == []


def test_a_zone_keeps_its_rules_beyond_its_last_change():
    assert offset(BERLIN, SUMMER.replace(year=2150)) == timedelta(hours=2)
    assert offset(BERLIN, WINTER) == timedelta(hours=1)


def test_the_first_version_of_the_format_is_read():
    assert offset(block(4, version=b"\0"), SUMMER) == timedelta(minutes=90)


def test_the_second_version_is_read_by_its_second_block_and_its_last_line():
    content = block(4, version=b"2", offset=60) + block(8, version=b"2") + b"\nB-3\n"
    assert offset(content, SUMMER) == timedelta(hours=3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"TZif",
        b"no zone at all, but long enough to be taken for a header of one",
        BERLIN[:-1],
        BERLIN[:200],
        BERLIN[: len(BERLIN) // 2],
        block(4, version=b"2"),
        block(4, version=b"\0", used=b"\0\2"),
        block(4, version=b"\0", offset=24 * 3600),
        block(4, version=b"\0", name=4),
        block(4, version=b"\0")[:-1] + b"B",
        block(4, version=b"2") + block(8, version=b"2") + b"\nno rule\n",
        struct.pack(">4sc15x6I", b"TZif", b"\0", 0, 0, 0, 0xFFFFFFFF, 1, 4),
        struct.pack(">4sc15x6I", b"TZif", b"\0", 0, 0, 0, 0, 0, 0),
    ],
)
def test_a_damaged_file_is_no_zone(content: bytes):
    assert zone_from_bytes(content, "Test/Zone") is None


@given(st.data())
def test_no_damage_hangs_or_crashes(data: st.DataObject):
    content = bytearray(BERLIN[: data.draw(st.sampled_from([len(BERLIN), 900, 300]))])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    zone = zone_from_bytes(bytes(content), "Test/Zone")
    assert zone is None or SUMMER.astimezone(zone).utcoffset() is not None
