"""CSV files: the rows that are given, and what is told of those that cannot be."""

import csv
import gzip
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.simulation.columns import FAULTS_MAX, Column, Fault, Table, number

TEXT = "b,a,c\n1,2,3\n4,5,6\n"
FIELD = st.text("ab,\"\n '", max_size=4)


@pytest.fixture
def written(tmp_path):
    def write(content, name="t.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def error_of(call):
    with pytest.raises(ValueError) as caught:
        call()
    return str(caught.value)


def test_columns_are_found_by_name_wherever_they_stand(written):
    table = Table(written(TEXT))
    assert table.header() == ("b", "a", "c")
    assert list(table.rows(["a", "b"])) == [(2, ("2", "1")), (3, ("5", "4"))]
    assert [(line, tuple(row)) for line, row in table.rows(["c"])] == [(2, ("3",)), (3, ("6",))]


def test_a_gzipped_file_is_known_by_its_first_bytes_and_not_by_its_name(written):
    packed = written(gzip.compress(TEXT.encode()), "plain.csv")
    plain = written(TEXT, "packed.csv.gz")
    assert list(Table(packed).rows(["a", "c"])) == list(Table(plain).rows(["a", "c"]))


def test_a_byte_order_mark_and_empty_lines_are_no_data(written):
    table = Table(written(b"\xef\xbb\xbfa,b\r\n\r\n1,2\r\n\r\n"))
    assert list(table.rows(["a", "b"])) == [(3, ("1", "2"))]


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(FIELD, FIELD), max_size=8), packed=st.booleans())
def test_whatever_a_writer_of_csv_writes_is_read(rows, packed, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    text = io.StringIO()
    csv.writer(text).writerows([("x", "y"), *rows])
    path.write_bytes(gzip.compress(text.getvalue().encode()) if packed else text.getvalue().encode())
    assert [tuple(row) for _, row in Table(path).rows(["x", "y"])] == rows
    assert [tuple(row) for _, row in Table(path).rows(["y"])] == [(y,) for _, y in rows]


def test_a_row_of_another_width_is_told_with_its_line_and_the_rest_is_read(written):
    path = written("a,b\n1\n2,3\n4,5,6\n")
    rows = Table(path).rows(["a", "b"])
    assert next(rows) == (3, ("2", "3"))
    assert error_of(lambda: next(rows)).splitlines() == [
        f"{path}:2: a row of 1 where the header has 2; use as many fields as the header has",
        f"{path}:4: a row of 3 where the header has 2; use as many fields as the header has",
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", ":1: no header; use a file that begins with a,b"),
        ("a,c\n", ":1: b: no such column; there is a, c; give it"),
        ("a,bb\n", ":1: b: no such column; there is a, bb; is bb meant?"),
        ("x\n", ":1: a: no such column; there is x; give it\nFILE:1: b: no such column; there is x; give it"),
        (b"a,b\n\xff,1\n", ": not UTF-8; use a CSV file in UTF-8, plain or gzipped"),
        (gzip.compress(TEXT.encode() * 999)[:-20], ": broken: "),
        (b"\x1f\x8bnothing", ": "),
        ("a,b\n" + "x" * 200_000 + ",1\n", ": broken: field larger than field limit (131072)"),
    ],
)
def test_a_file_that_is_no_such_table_says_so(written, content, told):
    path = written(content)
    assert error_of(lambda: list(Table(path).rows(["a", "b"]))).startswith(
        f"{path}{told}".replace("FILE", str(path))
    )


def test_a_file_that_is_not_there_says_so(tmp_path):
    path = tmp_path / "none.csv"
    told = f"{path}: No such file or directory; use a CSV file in UTF-8, plain or gzipped"
    assert error_of(lambda: list(Table(path).rows(["a"]))) == told
    assert error_of(Table(path).header) == told
    assert "Is a directory" in error_of(Table(tmp_path).header)


def test_many_faults_end_the_reading(written):
    path = written("a,b\n" + "1\n" * 1000)
    assert len(error_of(lambda: list(Table(path).rows(["a", "b"]))).splitlines()) == FAULTS_MAX


def test_a_column_reads_each_text_once():
    calls = []
    column = Column("n", "a number", lambda text: calls.append(text) or number(text, 0, 9))
    assert [column["1"], column["2"], column["1"]] == [1.0, 2.0, 1.0]
    assert calls == ["1", "2"]
    for _ in range(2):
        with pytest.raises(Fault, match=r"^ten is not a number$"):
            column["ten"]
    assert calls == ["1", "2", "ten", "ten"]


def test_every_fault_of_a_row_is_told(written):
    path = written("a,b\n")
    table = Table(path)
    columns = [Column(name, "use 0 to 9", lambda text: number(text, 0, 9)) for name in ("a", "b", "c")]
    table.tell_faults(7, columns, ("x", "3", ""))
    assert error_of(table.end).splitlines() == [
        f"{path}:7: a: x is not a number; use 0 to 9",
        f"{path}:7: c: is empty; use 0 to 9",
    ]


@pytest.mark.parametrize("text", ["0", "9", "4.5", " 4", "9e0"])
def test_a_number_within_its_bounds_is_read(text):
    assert number(text, 0, 9) == float(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "is empty"), ("x", "is not a number"), ("-1", "is out of range"), ("10", "is out of range"),
     ("nan", "is out of range"), ("inf", "is out of range"), ("-inf", "is out of range")],
)  # fmt: skip
def test_what_is_no_number_within_its_bounds_is_refused(text, told):
    with pytest.raises(ValueError, match=f"^{told}$"):
        number(text, 0, 9)
