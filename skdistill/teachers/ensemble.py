"""Many answers to one: how teachers are weighed, and averaged in blocks of rows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import joblib
import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from sklearn.utils.validation import check_memory

from skdistill.tables.frames import n_rows, take_rows
from skdistill.teachers.adapters import TorchTeacher
from skdistill.teachers.answers import PROBA_FLOOR
from skdistill.teachers.asking import Teacher
from skdistill.teachers.naming import Named, split_steps
from skdistill.teachers.progress import Stage, stage, track

# Rules that weigh teachers by the labels, in place of given numbers.
RULES = ("validation", "confidence")


@dataclass
class SoftTargets:
    """Soft targets of some rows, and how they came about.

    Attributes
    ----------
    proba : float array of shape (n, k)
        The teachers' probabilities; uniform where none answered.
    known : bool array of shape (n,)
        Rows that have a soft target: about them a teacher of positive weight said something. The
        others carry the hard term only.
    weights : float array of shape (n_teachers,) or None
        The teachers' weights on rows without a label, which sum to 1; None where none was asked.
    temperature : float
        By what the targets were calibrated.
    fitted : list
        The teachers that answered: each as it is, or the list of its fold clones.
    fold : int array of shape (n,) or None
        The fold whose clones did not see the row, -1 where there is none; None without folds.
    """

    proba: np.ndarray
    known: np.ndarray
    weights: np.ndarray | None = None
    temperature: float = 1.0
    fitted: list[Any] = field(default_factory=list)
    fold: np.ndarray | None = None


def check_teacher_weights(teacher_weights: Any, n_teachers: int) -> np.ndarray | str:
    """Return a rule by its name, or one weight for each teacher; they sum to 1."""
    if teacher_weights is None:
        return np.full(n_teachers, 1 / n_teachers)
    if isinstance(teacher_weights, str) and teacher_weights in RULES:
        return teacher_weights
    try:
        weights = np.asarray(teacher_weights, dtype=np.float64)
    except (TypeError, ValueError):
        weights = np.empty(0)
    if weights.shape != (n_teachers,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError(
            f"teacher_weights must be None, {' or '.join(map(repr, RULES))}, or {n_teachers} "
            f"finite numbers >= 0, one for each teacher; got {teacher_weights!r}."
        )
    if not weights.any():
        raise ValueError("teacher_weights must hold at least one positive number; all are zero.")
    return weights / weights.sum()


def weights_without_labels(teacher_weights: Any, n_teachers: int) -> np.ndarray:
    """Return one weight for each teacher where no answer can be compared with a label.

    What "confidence" says of rows without a label is to weigh all alike; what "validation" says
    has to be learnt first.
    """
    weights = check_teacher_weights(teacher_weights, n_teachers)
    if not isinstance(weights, str):
        return weights
    if weights == "validation":
        raise ValueError(
            "teacher_weights='validation' compares each teacher's own answers with labels, in fit "
            "or in the first batch of partial_fit; here the teachers label new rows alone. Pass "
            "numbers, such as the teacher_weights_ of an earlier fit, or None."
        )
    return np.full(n_teachers, 1 / n_teachers)


def to_proba(values: np.ndarray, space: str) -> np.ndarray:
    """Return probabilities from a mean of probabilities or of logits."""
    if space == "logits":
        values = np.exp(values - values.max(axis=1, keepdims=True))
    return values / values.sum(axis=1, keepdims=True)


def temper(proba: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities at a temperature, zeros included: p^(1/T), normalised.

    :func:`skdistill.losses.temper` is the same of tensors; teachers are asked without torch.
    """
    scaled = proba ** (1 / temperature)
    scaled /= scaled.sum(axis=1, keepdims=True)
    return scaled


def pool(
    answers: Sequence[np.ndarray],
    weights: np.ndarray | str,
    averaging: str,
    code: np.ndarray,
    sample_weight: np.ndarray | None = None,
) -> SoftTargets:
    """Weigh the answers by numbers or by a rule, and average them.

    Answers are probabilities or logits of shape (n, k), as `averaging` says; a row of NaN is one
    that a teacher cannot answer.
    """
    if not isinstance(weights, str):
        return SoftTargets(*mean_answer(answers, weights, averaging), weights)
    if weights == "confidence":
        by_row = confidence_weights(answers, averaging, code)
        equal = np.full(len(answers), 1 / len(answers))
        return SoftTargets(*mean_answer(answers, by_row, averaging), equal)
    learnt = validation_weights(answers, averaging, code, sample_weight)
    return SoftTargets(*mean_answer(answers, learnt, averaging), learnt)


def mean_answer(
    answers: Sequence[np.ndarray], weights: np.ndarray, averaging: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean as probabilities, and the rows that have one.

    ``weights`` holds a number for each teacher, or has shape (n_teachers, n). A teacher without an
    answer leaves its weight to the others.
    """
    total = np.zeros_like(answers[0])
    share = np.zeros(len(total))
    for answer, weight in zip(answers, weights, strict=True):
        own = np.where(np.isfinite(answer).all(axis=1), weight, 0.0)
        total += np.where(own[:, None] > 0, own[:, None] * answer, 0.0)
        share += own
    known = share > 0
    total[known] /= share[known, None]
    # Equal numbers are the uniform answer in either space.
    total[~known] = 1.0
    return to_proba(total, averaging), known


def confidence_weights(
    answers: Sequence[np.ndarray], averaging: str, code: np.ndarray
) -> np.ndarray:
    r"""Weigh the teachers row by row: less, the less a teacher expects the row's label.

    .. math:: w_k = \frac{1}{K - 1} \left( 1 - \frac{e^{c_k}}{\sum_j e^{c_j}} \right)

    with the log-loss :math:`c_k` of teacher k on the row (Zhang, Chen & Wang, "Confidence-Aware
    Multi-Teacher Knowledge Distillation", ICASSP 2022). The weights (n_teachers, n) sum to 1 in
    each column, or are 0 where none answers; a teacher without an answer has weight 0, and the
    others weigh as if it were not there.
    """
    losses = np.stack([-_log_proba_of(answer, averaging, code) for answer in answers])
    seen = np.isfinite(losses)
    n_seen = seen.sum(axis=0)
    share = softmax(np.where(seen | (n_seen == 0), np.nan_to_num(losses), -np.inf), axis=0)
    # The only teacher that has an answer has all the weight.
    weights = np.where(n_seen > 1, (1 - share) / np.maximum(n_seen - 1, 1), 1.0)
    return np.where(seen, weights, 0.0)


def _log_proba_of(answer: np.ndarray, averaging: str, code: np.ndarray) -> np.ndarray:
    """Return the logarithm of the probability that a teacher gives each row's label."""
    rows = np.arange(len(code))
    if averaging == "logits":
        return log_softmax(answer, axis=1)[rows, code]
    return np.log(np.maximum(answer[rows, code], PROBA_FLOOR))


def validation_weights(
    answers: Sequence[np.ndarray],
    averaging: str,
    code: np.ndarray,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """Find the weights whose average has the lowest log-loss on the labels.

    The problem is convex in both spaces. Equal weights and the best single teacher are candidates
    in any case, so the answer is not worse than either on these rows.
    """
    n_teachers = len(answers)
    used = np.logical_and.reduce([np.isfinite(answer).all(axis=1) for answer in answers])
    row_weight = np.ones(len(code)) if sample_weight is None else sample_weight
    used &= row_weight > 0
    equal = np.full(n_teachers, 1 / n_teachers)
    if n_teachers == 1:
        return equal
    if not used.any():
        raise ValueError(
            "teacher_weights='validation' compares the teachers on rows that all of them answer, "
            "and there is none. Pass numbers, or cv=5."
        )
    row_weight = row_weight[used] / row_weight[used].sum()
    loss = (_logit_pool_loss if averaging == "logits" else _proba_pool_loss)(
        np.stack([answer[used] for answer in answers]), code[used], row_weight
    )
    found = minimize(
        loss,
        equal,
        jac=True,
        method="SLSQP",
        bounds=[(0, 1)] * n_teachers,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
    ).x.clip(min=0)
    candidates = [equal, found / found.sum(), *np.eye(n_teachers)]
    return min(candidates, key=lambda w: float(loss(w)[0]))


def _proba_pool_loss(answers: np.ndarray, code: np.ndarray, row_weight: np.ndarray) -> Any:
    """Return the log-loss of a mean of probabilities, and its gradient, as a function."""
    at_label = np.maximum(answers[:, np.arange(len(code)), code], PROBA_FLOOR)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.maximum(weights @ at_label, PROBA_FLOOR)
        return -float(row_weight @ np.log(mixed)), -at_label @ (row_weight / mixed)

    return loss


def _logit_pool_loss(answers: np.ndarray, code: np.ndarray, row_weight: np.ndarray) -> Any:
    """Return the log-loss of a mean of logits, and its gradient, as a function."""
    rows = np.arange(len(code))
    at_label = answers[:, rows, code]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_proba = log_softmax(np.tensordot(weights, answers, axes=1), axis=1)
        expected = np.einsum("nk,mnk->mn", np.exp(log_proba), answers)
        return -float(row_weight @ log_proba[rows, code]), (expected - at_label) @ row_weight

    return loss


# Teachers are asked in blocks of rows, so that memory does not grow with teachers times rows.
BATCH_ROWS = 65_536


def resolve_averaging(averaging: str, named: Sequence[Named]) -> str:
    """Return the space in which teachers are averaged; logits only where every teacher has them."""
    if averaging != "auto":
        return averaging
    last_steps = [split_steps(n.estimator)[1] for n in named]
    native = all(isinstance(t, TorchTeacher) and t.output == "logits" for t in last_steps)
    return "logits" if native else "proba"


class Ensemble:
    """The weighted mean of teachers' probabilities or logits, given at a temperature.

    Calibration sets ``temperature``. With ``memory`` answers are read from there where the content
    of teacher and rows is that of an earlier question.
    """

    def __init__(
        self, teachers: Sequence[Teacher], weights: np.ndarray, averaging: str, memory: Any = None
    ) -> None:
        self.teachers = [t for t, w in zip(teachers, weights, strict=True) if w > 0]
        self.weights = weights[weights > 0]
        self.averaging = averaging
        self.memory = memory
        self.temperature = 1.0

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the ensemble's probabilities for raw rows."""
        return temper(to_proba(self.mean(X), self.averaging), self.temperature)

    def mean(self, X: Any) -> np.ndarray:
        """Return the weighted mean in the space of `averaging`, asking in blocks of rows."""
        n = n_rows(X)
        if n <= BATCH_ROWS and len(self.teachers) == 1:
            return self._mean_of_block(X, 0)
        starts = range(0, max(n, 1), BATCH_ROWS)
        with stage("answer", len(starts) * len(self.teachers)) as shown:
            if n <= BATCH_ROWS:
                return self._mean_of_block(X, 0, shown)
            answer: Any = None
            for start in starts:
                rows = np.arange(start, min(start + BATCH_ROWS, n))
                block = self._mean_of_block(take_rows(X, rows), start, shown)
                if answer is None:
                    answer = np.empty((n, block.shape[1]), dtype=block.dtype)
                answer[rows] = block
            return answer

    def _mean_of_block(self, X: Any, first_row: int, shown: Stage | None = None) -> np.ndarray:
        """Return the running weighted mean over the teachers for one block of rows."""
        mean: Any = 0.0
        for teacher, weight in zip(self.teachers, self.weights, strict=True):
            question = (teacher.estimator, teacher.classes, X, self.averaging)
            mean = mean + weight * remembered(
                self.memory, _answer, *question, teacher=teacher, first_row=first_row
            )
            if shown is not None:
                shown.done()
        return mean


def _answer(
    estimator: Any, classes: np.ndarray, X: Any, space: str, *, teacher: Teacher, first_row: int
) -> np.ndarray:
    """Ask a teacher; what its answer depends on stands first and is the key in memory."""
    return teacher.ask(X, space, first_row=first_row)


def remembered(memory: Any, function: Callable[..., Any], *key: Any, **others: Any) -> Any:
    """Call a function, or read its result from memory by the content of the key.

    What cannot be hashed, such as a lambda, is computed each time.
    """
    if memory is not None:
        cached = check_memory(memory).cache(function, ignore=list(others))
        try:
            joblib.hash(key)
        except Exception:
            cached = function
        return cached(*key, **others)
    return function(*key, **others)


def ask_each(
    teachers: Sequence[Teacher], X: Any, averaging: str, memory: Any = None
) -> list[np.ndarray]:
    """Return the answer of each teacher by itself."""
    shown = track("teacher", teachers, len(teachers))
    return [Ensemble([t], np.ones(1), averaging, memory).mean(X) for t in shown]
