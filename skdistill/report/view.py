"""DistillationReport: the numbers, and how a terminal and a notebook show them."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from skdistill.report.verdict import Comparison

_WIDTH = 96
_NAME = 22
COMPARED = {"accuracy": "accuracy", "log_loss": "log-loss"}


@dataclass(frozen=True)
class ReportRow:
    """The numbers of one model.

    Attributes
    ----------
    name : str
        The teacher's name, "ensemble", "calibrated ensemble", "plain student" or "distilled
        student".
    role : {"teacher", "ensemble", "calibrated", "plain", "distilled"}
        What it is.
    accuracy, log_loss, roc_auc, brier, ece : float
        Scores on the labels.
    agreement, kl : float
        Against the ensemble as it answers.
    n_parameters, n_bytes : int or None
        Size; None where it cannot be told.
    latency_p50, latency_p99 : float
        Seconds that one row takes.
    rows_per_second : float
        In blocks of rows.
    """

    name: str
    role: str
    accuracy: float
    log_loss: float
    roc_auc: float
    brier: float
    ece: float
    agreement: float
    kl: float
    n_parameters: int | None
    n_bytes: int | None
    latency_p50: float
    latency_p99: float
    rows_per_second: float


@dataclass(frozen=True, repr=False)
class DistillationReport:
    """What :func:`distillation_report` found.

    ``print(report)`` shows it as text of at most 100 columns; a notebook shows it as a table.

    Attributes
    ----------
    rows : tuple of ReportRow
        Each teacher, the ensemble, the ensemble at the temperature of the student's targets if
        `fit` calibrated these, the plain student if there is one, the distilled student.
    comparisons : dict of Comparison
        For ``"accuracy"`` and ``"log_loss"``: the share of the gap that was recovered
        (``share``, ``share_low``, ``share_high``; None where none is given) and the paired
        differences with their intervals (``over_plain``, ``over_ensemble``, ``gap``), signed such
        that positive is better. ``recovered`` and ``verdict`` say the same in words.
    notes : tuple of str
        What a reader must know about the numbers.
    n_rows, n_classes : int
        Size of the held-out set.

    See Also
    --------
    distillation_report : Makes it.
    DistillationDisplay : Draws it.
    """

    rows: tuple[ReportRow, ...]
    comparisons: dict[str, Comparison]
    notes: tuple[str, ...]
    n_rows: int
    n_classes: int

    def row(self, role: str) -> ReportRow | None:
        """Return the first row of a role.

        Parameters
        ----------
        role : {"teacher", "ensemble", "calibrated", "plain", "distilled"}
            What is looked for.

        Returns
        -------
        row : ReportRow or None
            None where there is none.
        """
        return next((row for row in self.rows if row.role == role), None)

    @property
    def compression_ratio(self) -> float | None:
        """Bytes of the ensemble over bytes of the student; None where one is unknown."""
        return self._ratio("n_bytes")

    @property
    def parameter_ratio(self) -> float | None:
        """Parameters of the ensemble over those of the student; None where one is unknown."""
        return self._ratio("n_parameters")

    @property
    def speed_up(self) -> float | None:
        """Median time of the ensemble for one row over that of the student."""
        return self._ratio("latency_p50")

    def _ratio(self, name: str) -> float | None:
        """Return a number of the ensemble over that of the student."""
        large, small = (getattr(self.row(role), name) for role in ("ensemble", "distilled"))
        return large / small if large and small else None

    def to_frame(self) -> Any:
        """Return the numbers as a table.

        Returns
        -------
        frame : pandas.DataFrame
            One row a model, named after it; the columns are the attributes of a row. Times are
            in seconds.

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError(
                "to_frame() needs pandas, which comes with skdistill[plot]. The rows are in .rows."
            ) from error
        return pd.DataFrame([asdict(row) for row in self.rows]).set_index("name")

    def __str__(self) -> str:
        """Return the report as text."""
        return _as_text(self)

    def __repr__(self) -> str:
        """Return the report as text, so that a session shows it."""
        return _as_text(self)

    def _repr_html_(self) -> str:
        """Return the report as HTML, which notebooks show."""
        return _as_html(self)


def _plain_float(digits: int) -> Callable[[float], str]:
    """Return what writes a number with so many digits behind the point."""
    return lambda value: f"{value:z.{digits}f}"


def _count(value: int | None) -> str:
    """Write a count, or a dash where it is unknown."""
    return "–" if value is None else f"{value:,}"


def _scaled(value: float | None, units: Sequence[tuple[float, str]]) -> str:
    """Write a number with three digits in the largest unit that it fills."""
    if value is None:
        return "–"
    size, unit = next(((s, u) for s, u in units if value >= s), units[-1])
    number = value / size
    digits = 0 if number >= 100 or unit == "B" else 1 if number >= 10 else 2
    return f"{number:.{digits}f} {unit}"


def write_bytes(value: int | None) -> str:
    """Write a number of bytes."""
    return _scaled(value, [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")])


def _seconds(value: float) -> str:
    """Write a time."""
    return _scaled(value, [(1, "s"), (1e-3, "ms"), (1e-6, "µs")])


# Attribute of a row, heading, and how it is written.
_QUALITY: list[tuple[str, str, Callable[[Any], str]]] = [
    ("accuracy", "accuracy", _plain_float(4)),
    ("log_loss", "log-loss", _plain_float(4)),
    ("roc_auc", "ROC AUC", _plain_float(4)),
    ("brier", "Brier", _plain_float(4)),
    ("ece", "ECE", _plain_float(4)),
    ("agreement", "agreement", _plain_float(3)),
    ("kl", "KL", _plain_float(4)),
]
_COST: list[tuple[str, str, Callable[[Any], str]]] = [
    ("n_parameters", "parameters", _count),
    ("n_bytes", "on disk", write_bytes),
    ("latency_p50", "1 row p50", _seconds),
    ("latency_p99", "1 row p99", _seconds),
    ("rows_per_second", "rows/s", lambda value: f"{value:,.0f}"),
]


def _as_text(report: DistillationReport) -> str:
    """Lay the report out for a terminal."""
    recovered = [(m, [report.comparisons[m].recovered]) for m in COMPARED]
    verdict = [(m, report.comparisons[m].verdict) for m in COMPARED]
    parts = [
        f"Distillation report: {_held_out(report)}",
        _table(report.rows, _QUALITY, 10),
        _table(report.rows, _COST, 14),
        textwrap.fill(_ratios(report), _WIDTH),
        "Knowledge recovered: (student - plain) / (ensemble - plain)\n" + _said(recovered),
        "Verdict, with 95 % intervals; positive is better\n" + _said(verdict),
        "Notes\n" + "\n".join(_wrapped(note, "  - ", "    ") for note in report.notes),
    ]
    return "\n\n".join(part for part in parts if part)


def _held_out(report: DistillationReport) -> str:
    """Say on what the numbers rest."""
    return f"{report.n_rows:,} held-out rows, {report.n_classes} classes"


def _table(
    rows: Sequence[ReportRow], columns: list[tuple[str, str, Callable[[Any], str]]], width: int
) -> str:
    """Write some columns of all rows, right-aligned behind the names."""
    lines = [" " * _NAME + "".join(f"{heading:>{width}}" for _, heading, _ in columns)]
    for row in rows:
        name = row.name if len(row.name) <= _NAME else row.name[: _NAME - 1] + "…"
        cells = (f"{write(getattr(row, attribute)):>{width}}" for attribute, _, write in columns)
        lines.append(f"{name:<{_NAME}}" + "".join(cells))
    return "\n".join(lines)


def _ratios(report: DistillationReport) -> str:
    """Say how much smaller and faster the student is than the ensemble."""
    words = [
        (report.parameter_ratio, "{} the parameters"),
        (report.compression_ratio, "{} the bytes"),
        (report.speed_up, "{} the time for one row"),
    ]
    known = [text.format(_times(ratio)) for ratio, text in words if ratio is not None]
    return f"The ensemble takes {', '.join(known)} of the distilled student."


def _times(ratio: float) -> str:
    """Write a ratio."""
    return f"{ratio:,.0f}x" if ratio >= 10 else f"{ratio:.2g}x"


def _said(lines: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Write sentences behind the name of their score."""
    written = []
    for metric, sentences in lines:
        for i, sentence in enumerate(sentences):
            first = f"  {COMPARED[metric] if i == 0 else '':<10}"
            written.append(_wrapped(sentence, first, " " * 14))
    return "\n".join(written)


def _wrapped(text: str, first: str, other: str) -> str:
    """Wrap a sentence to the width of the report; an interval stays on one line."""
    whole = re.sub(r"\[[^]]*\]", lambda interval: interval.group().replace(" ", "\0"), text)
    filled = textwrap.fill(whole, _WIDTH, initial_indent=first, subsequent_indent=other)
    return filled.replace("\0", " ")


def _as_html(report: DistillationReport) -> str:
    """Lay the report out for a notebook."""
    columns = [*_QUALITY, *_COST]
    headings = "".join(f"<th>{html.escape(heading)}</th>" for _, heading, _ in columns)
    body = "".join(_html_row(row, columns) for row in report.rows)
    recovered = _html_list((m, report.comparisons[m].recovered) for m in COMPARED)
    verdict = _html_list((m, s) for m in COMPARED for s in report.comparisons[m].verdict)
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in report.notes)
    return (
        f"<div><p><b>Distillation report</b>: {_held_out(report)}</p>"
        f'<div style="overflow-x:auto"><table><thead><tr><th></th>{headings}</tr></thead>'
        f"<tbody>{body}</tbody></table></div><p>{html.escape(_ratios(report))}</p>"
        f"<p><b>Knowledge recovered</b>: (student − plain) / (ensemble − plain)</p>{recovered}"
        f"<p><b>Verdict</b>, with 95 % intervals; positive is better</p>{verdict}"
        f"<p><b>Notes</b></p><ul>{notes}</ul></div>"
    )


def _html_row(row: ReportRow, columns: list[tuple[str, str, Callable[[Any], str]]]) -> str:
    """Write one model; the distilled student stands out."""
    style = ' style="font-weight:bold"' if row.role == "distilled" else ""
    cells = "".join(
        f'<td style="text-align:right">{write(getattr(row, attribute))}</td>'
        for attribute, _, write in columns
    )
    name = html.escape(row.name)
    return f'<tr{style}><th style="text-align:left;white-space:nowrap">{name}</th>{cells}</tr>'


def _html_list(lines: Iterable[tuple[str, str]]) -> str:
    """Write sentences as a list, each behind the name of its score."""
    items = (f"<li>{COMPARED[metric]}: {html.escape(sentence)}</li>" for metric, sentence in lines)
    return f"<ul>{''.join(items)}</ul>"
