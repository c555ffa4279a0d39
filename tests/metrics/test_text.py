"""The two text formats: headers, escapes and the choice between them."""

from math import inf, nan

import pytest

from balancer.metrics.text import Family, escaped, exposition, line, number, wants_openmetrics

COUNTER = Family(name="jobs", kind="counter", help='Jobs "done".', lines=["jobs_total 3"])
INFO = Family(name="build", kind="info", help="Which.", lines=['build_info{version="1"} 1'])
EMPTY = Family(name="ratio", kind="gauge", help="Nothing known.", lines=[])

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


def test_plain_text_names_counters_and_infos_with_their_suffix() -> None:
    assert exposition([COUNTER, INFO], openmetrics=False).decode() == (
        '# HELP jobs_total Jobs "done".\n'
        "# TYPE jobs_total counter\n"
        "jobs_total 3\n"
        "# HELP build_info Which.\n"
        "# TYPE build_info gauge\n"
        'build_info{version="1"} 1\n'
    )


def test_openmetrics_names_the_family_without_suffix_and_ends_with_eof() -> None:
    assert exposition([COUNTER, INFO], openmetrics=True).decode() == (
        '# HELP jobs Jobs \\"done\\".\n'
        "# TYPE jobs counter\n"
        "jobs_total 3\n"
        "# HELP build Which.\n"
        "# TYPE build info\n"
        'build_info{version="1"} 1\n'
        "# EOF\n"
    )


@pytest.mark.parametrize(("openmetrics", "left"), [(False, b""), (True, b"# EOF\n")])
def test_a_family_without_samples_is_left_out(openmetrics: bool, left: bytes) -> None:
    assert exposition([EMPTY], openmetrics=openmetrics) == left


def test_label_values_are_escaped() -> None:
    assert escaped('a\\b"c\nd') == r"a\\b\"c\nd"
    assert line("x", {"who": 'say "hi"'}, 1) == r'x{who="say \"hi\""} 1'
    assert line("x", {}, 0.5) == "x 0.5"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (0.1, "0.1"), (1e-05, "1e-05"), (inf, "+Inf"), (-inf, "-Inf"), (nan, "NaN")],
)
def test_values_are_written_as_prometheus_reads_them(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/html, */*;q=0.1", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        ("APPLICATION/OPENMETRICS-TEXT", True),
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("text/plain;version=0.0.4;q=0.9, application/openmetrics-text;version=1.0.0;q=0.2", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nan", False),
        ("application/openmetrics-text;q=much", False),
        (";;;,,=,;q", False),
    ],
)
def test_openmetrics_is_sent_to_those_who_prefer_it(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted
