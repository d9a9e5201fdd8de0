import pytest

from purista.slot import SlotGrid


def test_a_grid_is_read_from_its_text():
    assert SlotGrid.from_text("86400+3600") == SlotGrid(86_400, 3600)


@pytest.mark.parametrize(
    "text",
    ["", "+", "60", "60+", "+0", "60+60", "0+0", "-60+0", "60+-1", "86401+0", "1e3+0", "٦٠+0"],
)
def test_what_is_no_grid_is_refused(text: str):
    with pytest.raises(ValueError, match="period"):
        SlotGrid.from_text(text)


def test_a_long_text_is_refused_unread():
    with pytest.raises(ValueError, match="period"):
        SlotGrid.from_text("1" * 5000 + "+0")
