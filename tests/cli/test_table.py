"""Tables that line up, and numbers as people read them."""

import pytest

from balancer.cli import table


def test_columns_line_up_and_numbers_stand_to_the_right():
    text = table.render(["NAME", "N"], [["a", "1"], ["longer", "100"]], right=(1,))
    assert text == "NAME       N\na          1\nlonger   100"


def test_colour_codes_and_wide_characters_do_not_shift_a_column():
    lines = table.render(["A", "B"], [["\x1b[31mred\x1b[0m", "x"], ["日本", "y"], ["plain", "z"]]).splitlines()
    assert lines[1] == "\x1b[31mred\x1b[0m     x"
    assert lines[2] == "日本    y"
    assert lines[3] == "plain   z"


def test_a_table_without_rows_is_its_header():
    assert table.render(["A", "B"], []) == "A   B"


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "—"), (0.0821, "0.082 s"), (4.14, "4.1 s"), (41.2, "41 s"), (119.0, "119 s"), (180.0, "3 min")],
)
def test_spans(value, text):
    assert table.seconds(value) == text


@pytest.mark.parametrize(("ratio", "text"), [(None, "—"), (0.0, "0.0 %"), (0.614, "61.4 %"), (1.0, "100.0 %")])
def test_shares(ratio, text):
    assert table.percent(ratio) == text


def test_a_state_has_no_colour_where_nobody_sees_it():
    assert table.state("ejected") == "ejected"
