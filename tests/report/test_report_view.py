"""Laws of how a report is shown."""

import re
import sys
from dataclasses import asdict

import numpy as np
import pytest

from skdistill.report import DistillationReport
from skdistill.report.verdict import compare
from skdistill.report.view import ReportRow


def make_row(name, role, **changes):
    numbers = {
        **{"accuracy": 0.91234, "log_loss": 0.21, "roc_auc": 0.97, "brier": 0.06, "ece": 0.02},
        **{"agreement": 0.95, "kl": 0.011, "n_parameters": 1234567, "n_bytes": 45_678},
        **{"latency_p50": 2.5e-2, "latency_p99": 3.25e-2, "rows_per_second": 12345.6},
    }
    return ReportRow(name=name, role=role, **{**numbers, **changes})


def make_report(names=("forest",), plain=True, notes=("A note.",), means=(0.8, 1.0, 0.0)):
    rng = np.random.default_rng(0)
    models = [mean + rng.normal(size=300) for mean in means]
    found = compare(*models[: 2 + plain], n_bootstrap=200, rng=np.random.RandomState(0))
    rows = [make_row(name, "teacher") for name in names]
    rows.append(make_row("ensemble", "ensemble"))
    rows += [make_row("plain student", "plain")] if plain else []
    rows.append(
        make_row(
            "distilled student",
            "distilled",
            n_parameters=3490,
            n_bytes=14_000,
            latency_p50=7.1e-6,
            latency_p99=9e-6,
        )
    )
    comparisons = {"accuracy": found, "log_loss": found}
    return DistillationReport(tuple(rows), comparisons, notes, n_rows=300, n_classes=2)


LONG = [f"a_teacher_with_a_very_long_name_{i}" for i in range(12)]
REPORTS = {
    "usual": make_report(),
    "long names": make_report(LONG, notes=("Used as they were: " + ", ".join(LONG),)),
    "no plain": make_report(plain=False),
    "no gap": make_report(means=(0.0, 0.0, 0.0)),
    "bad teacher": make_report(means=(0.2, -1.0, 0.0)),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_text_fits_a_terminal_and_says_everything(report):
    text = str(report)
    assert max(map(len, text.splitlines())) <= 100
    assert repr(report) == text
    words = re.sub(r"\s+", " ", text)
    for comparison in report.comparisons.values():
        for sentence in (comparison.recovered, *comparison.verdict):
            assert sentence in words
    for note in report.notes:
        assert note in words


def test_numbers_are_written_with_units():
    text = str(make_report())
    (row,) = re.findall(r"^forest .*ms.*$", text, re.M)
    assert row.split() == [
        "forest",
        "1,234,567",
        "45.7",
        "kB",
        "25.0",
        "ms",
        "32.5",
        "ms",
        "12,346",
    ]
    (student,) = re.findall(r"^distilled student .*µs.*$", text, re.M)
    assert student.split()[2:] == ["3,490", "14.0", "kB", "7.10", "µs", "9.00", "µs", "12,346"]


def test_ratios_are_said_where_they_are_known():
    report = make_report()
    expected = "takes 354x the parameters, 3.3x the bytes, 3,521x the time for one row"
    assert expected in str(report)
    unknown = [make_row(r.name, r.role, n_parameters=None, n_bytes=None) for r in report.rows]
    blind = DistillationReport(tuple(unknown), report.comparisons, (), n_rows=2, n_classes=2)
    assert blind.compression_ratio is blind.parameter_ratio is None
    assert "The ensemble takes 1x the time for one row of the distilled student." in str(blind)
    assert re.search(r"^forest +– +– +25.0 ms", str(blind), re.M)


def test_the_frame_holds_the_rows():
    report = make_report()
    frame = report.to_frame()
    assert list(frame.index) == ["forest", "ensemble", "plain student", "distilled student"]
    for row in report.rows:
        assert {"name": row.name, **frame.loc[row.name].to_dict()} == asdict(row)


def test_the_frame_says_what_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"to_frame\(\) needs pandas, .* skdistill\[plot\]"):
        make_report().to_frame()


def test_html_holds_the_same_and_escapes_names():
    report = make_report(["<b>&"], notes=("1 < 2",))
    page = report._repr_html_()
    assert "&lt;b&gt;&amp;" in page
    assert "<li>1 &lt; 2</li>" in page
    assert page.count("<tr") == 1 + len(report.rows)
    assert page.count("<td") == 12 * len(report.rows)
    for tag in ("div", "table", "thead", "tbody", "ul", "p"):
        assert len(re.findall(f"<{tag}[ >]", page)) == page.count(f"</{tag}>")
    assert 'style="font-weight:bold"' in page
