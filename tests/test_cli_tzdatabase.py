import shutil
import zipfile
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import tzdata

from purista.cli.tzdatabase import own_version, read_database
from purista.errors import LoadError

PACKAGE = Path(tzdata.__file__).parent
WANTED = ("Africa/Casablanca", "America/New_York", "UTC")
WINTER = datetime(2027, 1, 1, tzinfo=UTC)


def tokyo(folder: Path, *names: str) -> Path:
    """Put Tokyo's clock under other names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PACKAGE / "zoneinfo/Asia/Tokyo", folder / name)
    return folder


def mistake(path: Path, *wanted: str) -> str:
    with pytest.raises(LoadError) as caught:
        read_database(path, wanted)
    return str(caught.value)


@pytest.mark.parametrize("path", [PACKAGE, PACKAGE / "zoneinfo", PACKAGE.parent])
def test_the_package_is_read_from_any_of_its_folders(path: Path):
    found = read_database(path, WANTED)
    assert sorted(found.zones) == sorted(WANTED)
    assert (found.missing, found.version) == ((), tzdata.IANA_VERSION)


@pytest.mark.parametrize(
    "inside", ["", "zoneinfo/", "tzdata/zoneinfo/", "tzdata-2099.1/src/tzdata/zoneinfo/", "zones/"]
)
def test_a_zip_file_is_read_wherever_its_zones_are(tmp_path: Path, inside: str):
    path = tmp_path / "zones.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(PACKAGE / "zoneinfo/Asia/Tokyo", f"{inside}America/New_York")
    found = read_database(path, WANTED)
    assert WINTER.astimezone(found.zones["America/New_York"]).hour == 9
    assert (found.missing, found.version) == (("Africa/Casablanca",), None)


def test_the_zones_of_the_process_stay_as_they_are(tmp_path: Path):
    found = read_database(tokyo(tmp_path, "America/New_York"), WANTED)
    assert found.zones["America/New_York"].utcoffset(WINTER) == timedelta(hours=9)
    assert ZoneInfo("America/New_York").utcoffset(WINTER) == timedelta(hours=-5)
    assert ZoneInfo.no_cache("America/New_York").utcoffset(WINTER) == timedelta(hours=-5)


def test_utc_needs_no_file(tmp_path: Path):
    found = read_database(tmp_path, ["UTC", "Etc/UTC"])
    assert [each.utcoffset(WINTER) for each in found.zones.values()] == [timedelta(0)] * 2
    assert found.missing == ()


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        ("tzdata.zi", "# version 2099b\n# This zic input file", "2099b"),
        ("+VERSION", "2099c\n", "2099c"),
        ("tzdata.zi", "R d 1916 o", None),
    ],
)
def test_the_version_is_read_from_where_databases_tell_it(
    tmp_path: Path, file: str, text: str, version: str | None
):
    (tokyo(tmp_path, "America/New_York") / file).write_text(text)
    assert read_database(tmp_path, WANTED).version == version


def test_a_file_beside_a_zip_file_tells_no_version(tmp_path: Path):
    (tmp_path / "__init__.py").write_text('IANA_VERSION = "2001z"\n')
    with zipfile.ZipFile(tmp_path / "zones.zip", "w") as archive:
        archive.write(PACKAGE / "zoneinfo/Asia/Tokyo", "Asia/Tokyo")
    assert read_database(tmp_path / "zones.zip", ["Asia/Tokyo"]).version is None


def test_the_package_is_known_from_inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    package = tokyo(tmp_path / "zoneinfo", "Asia/Tokyo")
    (tmp_path / "__init__.py").write_text('IANA_VERSION = "2099a"\n')
    monkeypatch.chdir(package)
    assert read_database(Path(), ["Asia/Tokyo"]).version == "2099a"


def test_the_own_version_is_that_of_the_files_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tokyo(tmp_path, "America/New_York") / "tzdata.zi").write_text("# version 2001z\n")
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(tmp_path),))
    assert own_version(["America/New_York"]) == "2001z"
    assert own_version(["Africa/Casablanca"]) == tzdata.IANA_VERSION
    assert own_version(WANTED) == f"2001z, {tzdata.IANA_VERSION}"
    (tmp_path / "tzdata.zi").unlink()
    assert own_version(["America/New_York"]) is None


def test_what_is_no_database_is_one_message(tmp_path: Path):
    assert "cannot read" in mistake(tmp_path / "nowhere", "UTC")
    (tmp_path / "text").write_text("Rule EU 1977 1980")
    assert "is no folder, wheel or zip file of time zones" in mistake(tmp_path / "text", "UTC")
    names = ("America/New_York", "Asia/Tokyo", "Europe/Berlin", "Europe/Rome")
    message = mistake(tmp_path, *names)
    assert (
        "none of the zones that are needed ('America/New_York', 'Asia/Tokyo', 'Europe/" in message
    )
    assert "('Asia/Tokyo'); name a folder" in mistake(tmp_path, "Asia/Tokyo")


def test_a_damaged_zone_is_named(tmp_path: Path):
    whole = (PACKAGE / "zoneinfo/Europe/Berlin").read_bytes()
    (tmp_path / "Berlin").write_bytes(whole[:-1])
    assert mistake(tmp_path, "Berlin").startswith(
        f"'Berlin' in '{tmp_path}' is no compiled time zone (TZif), or it is damaged"
    )


def test_a_damaged_or_locked_archive_is_one_message(tmp_path: Path):
    path = tmp_path / "zones.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(PACKAGE / "zoneinfo/Europe/Berlin", "Europe/Berlin")
    content = path.read_bytes()
    damaged = bytearray(content)
    damaged[60:200] = bytes(140)
    path.write_bytes(damaged)
    assert f"'{path}'" in mistake(path, "Europe/Berlin")
    locked = bytearray(content)
    locked[6] |= 1
    locked[content.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(locked)
    assert f"cannot read '{path}': " in mistake(path, "Europe/Berlin")
