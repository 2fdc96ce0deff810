"""DistillationReport: the numbers, and how a terminal and a notebook show them."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from skdistill.report.verdict import Comparison

_WIDTH = 96
_NAME = 22
COMPARED = {"accuracy": "accuracy", "log_loss": "log-loss"}


# How a number is written: a format of Python's, or the units to choose from, the largest first.
Form = str | Sequence[tuple[float, str]]
BYTES: Form = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1, "B")]
_SECONDS: Form = [(1, "s"), (1e-3, "ms"), (1e-6, "µs")]


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
    # With its heading in tables, and how it is written there.
    accuracy: float = field(metadata={"accuracy": "z.4f"})
    log_loss: float = field(metadata={"log-loss": "z.4f"})
    roc_auc: float = field(metadata={"ROC AUC": "z.4f"})
    brier: float = field(metadata={"Brier": "z.4f"})
    ece: float = field(metadata={"ECE": "z.4f"})
    agreement: float = field(metadata={"agreement": "z.3f"})
    kl: float = field(metadata={"KL": "z.4f"})
    n_parameters: int | None = field(metadata={"parameters": ","})
    n_bytes: int | None = field(metadata={"on disk": BYTES})
    latency_p50: float = field(metadata={"1 row p50": _SECONDS})
    latency_p99: float = field(metadata={"1 row p99": _SECONDS})
    rows_per_second: float = field(metadata={"rows/s": ",.0f"})


# Attribute, heading, and how it is written: seven scores, then what models cost.
Columns = list[tuple[str, str, Form]]
_COLUMNS: Columns = [(f.name, *item) for f in fields(ReportRow) for item in f.metadata.items()]


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

    def __repr__(self) -> str:
        """Return the report as text, so that a session shows it."""
        recovered, verdict = map(_said, _sentences(self))
        notes = [_wrapped(note, "  - ", "    ") for note in self.notes]
        parts = [
            f"Distillation report: {_held_out(self)}",
            _table(self.rows, _COLUMNS[:7], 10),
            _table(self.rows, _COLUMNS[7:], 14),
            textwrap.fill(_ratios(self), _WIDTH),
            f"Knowledge recovered: (student - plain) / (ensemble - plain)\n{recovered}",
            f"Verdict, with 95 % intervals; positive is better\n{verdict}",
            "Notes\n" + "\n".join(notes),
        ]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        """Return the report as HTML, which notebooks show."""
        headings = "".join(f"<th>{html.escape(heading)}</th>" for _, heading, _ in _COLUMNS)
        body = "".join(_html_row(row) for row in self.rows)
        recovered, verdict = (
            _html_list(f"{name}: {said}" for name, said in part) for part in _sentences(self)
        )
        return (
            f"<div><p><b>Distillation report</b>: {_held_out(self)}</p>"
            f'<div style="overflow-x:auto"><table><thead><tr><th></th>{headings}</tr></thead>'
            f"<tbody>{body}</tbody></table></div><p>{html.escape(_ratios(self))}</p>"
            f"<p><b>Knowledge recovered</b>: (student − plain) / (ensemble − plain)</p>{recovered}"
            f"<p><b>Verdict</b>, with 95 % intervals; positive is better</p>{verdict}"
            f"<p><b>Notes</b></p>{_html_list(self.notes)}</div>"
        )


def write(value: float | None, form: Form) -> str:
    """Write a number, with units in three digits; a dash where it is unknown."""
    if value is None:
        return "–"
    if isinstance(form, str):
        return format(value, form)
    size, unit = next(((s, u) for s, u in form if value >= s), form[-1])
    number = value / size
    digits = 0 if number >= 100 or unit == "B" else 1 if number >= 10 else 2
    return f"{number:.{digits}f} {unit}"


def _cells(row: ReportRow, columns: Columns) -> list[str]:
    """Write some numbers of a model."""
    return [write(getattr(row, attribute), form) for attribute, _, form in columns]


def _held_out(report: DistillationReport) -> str:
    """Say on what the numbers rest."""
    return f"{report.n_rows:,} held-out rows, {report.n_classes} classes"


def _ratios(report: DistillationReport) -> str:
    """Say how much smaller and faster the student is than the ensemble."""
    what = "parameters", "bytes", "time for one row"
    ratios = report.parameter_ratio, report.compression_ratio, report.speed_up
    known = [
        f"{format(ratio, ',.0f' if ratio >= 10 else '.2g')}x the {name}"
        for name, ratio in zip(what, ratios, strict=True)
        if ratio is not None
    ]
    return f"The ensemble takes {', '.join(known)} of the distilled student."


def _sentences(report: DistillationReport) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what was recovered, and the verdict: sentences with the name of their score."""
    found = [(name, report.comparisons[score]) for score, name in COMPARED.items()]
    verdict = [(name, sentence) for name, of_score in found for sentence in of_score.verdict]
    return [(name, of_score.recovered) for name, of_score in found], verdict


def _table(rows: Sequence[ReportRow], columns: Columns, width: int) -> str:
    """Write some columns of all rows, right-aligned behind the names."""
    table = [("", [heading for _, heading, _ in columns])]
    table += [(row.name, _cells(row, columns)) for row in rows]
    return "\n".join(
        f"{name if len(name) <= _NAME else name[: _NAME - 1] + '…':<{_NAME}}"
        + "".join(f"{cell:>{width}}" for cell in cells)
        for name, cells in table
    )


def _said(sentences: list[tuple[str, str]]) -> str:
    """Write sentences, the first of each score behind its name."""
    lines, last = [], ""
    for name, sentence in sentences:
        lines.append(_wrapped(sentence, f"  {'' if name == last else name:<10}", " " * 14))
        last = name
    return "\n".join(lines)


def _wrapped(text: str, first: str, other: str) -> str:
    """Wrap a sentence to the width of the report; an interval stays on one line."""
    whole = re.sub(r"\[[^]]*\]", lambda interval: interval.group().replace(" ", "\0"), text)
    filled = textwrap.fill(whole, _WIDTH, initial_indent=first, subsequent_indent=other)
    return filled.replace("\0", " ")


def _html_row(row: ReportRow) -> str:
    """Write one model; the distilled student stands out."""
    style = ' style="font-weight:bold"' if row.role == "distilled" else ""
    cells = "".join(f'<td style="text-align:right">{cell}</td>' for cell in _cells(row, _COLUMNS))
    name = html.escape(row.name)
    return f'<tr{style}><th style="text-align:left;white-space:nowrap">{name}</th>{cells}</tr>'


def _html_list(sentences: Iterable[str]) -> str:
    """Write sentences as a list."""
    return f"<ul>{''.join(f'<li>{html.escape(sentence)}</li>' for sentence in sentences)}</ul>"
