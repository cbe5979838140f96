import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effboost._utils.csv_rows import unescape_formula, write_row, write_rows

# Names of files on Linux hold anything but a null byte and a slash.
cells = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=6)
risky = st.text(st.sampled_from("\r\n,;\"'=+-@\t a1"), max_size=6)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@given(st.lists(st.tuples(cells | risky, cells | risky), min_size=1, max_size=5), st.booleans())
def test_rows_come_back_as_they_were(rows, escape_formulas):
    file = io.StringIO(newline="")
    write_rows(file, rows, escape_formulas=escape_formulas)
    file.seek(0)
    found = [tuple(row) for row in csv.reader(file, strict=True)]
    if escape_formulas:
        found = [tuple(map(unescape_formula, row)) for row in found]
    assert found == rows


@pytest.mark.parametrize("name", ["a\rb.png", "a\nb.png", "a\r\nb.png", '"\r', "\r"])
def test_a_name_with_a_line_end_is_quoted(name):
    file = io.StringIO(newline="")
    write_row(file, [name, 1])
    quoted = name.replace('"', '""')
    assert file.getvalue() == f'"{quoted}",1\n'


@pytest.mark.parametrize(
    "cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "=", "-"]
)
def test_formulas_are_escaped_on_request(cell):
    file = io.StringIO(newline="")
    write_row(file, [cell], escape_formulas=True)
    assert next(csv.reader(io.StringIO(file.getvalue(), newline=""))) == [f"'{cell}"]
    plain = io.StringIO(newline="")
    write_row(plain, [cell])
    assert next(csv.reader(io.StringIO(plain.getvalue(), newline=""))) == [cell]


@pytest.mark.parametrize("cell", ["-1", "+0.5", "-1e-3", "ALL", "", "a=b", 5, -0.25, None])
def test_numbers_and_other_cells_stay_as_they_are(cell):
    file = io.StringIO(newline="")
    write_row(file, [cell, "x"], escape_formulas=True)
    assert file.getvalue() == f"{'' if cell is None else cell},x\n"


def test_control_characters_do_not_reach_a_terminal():
    file, terminal = io.StringIO(newline=""), Terminal()
    row = ["\x1b[31mred\x1b[0m", "\u202egnp.exe", "plain"]
    write_row(file, row)
    write_row(terminal, row)
    assert file.getvalue() == ",".join(row) + "\n"
    assert terminal.getvalue() == "\\u001b[31mred\\u001b[0m,\\u202egnp.exe,plain\n"
