"""Progress: one live line for a person, tasks for scikit-learn's callbacks, and neither by default.

What takes long says so with `stage` or `track`, wherever it is called from. It is shown if the fit
around it, or a function that shows a line of its own, asked for it in this thread and process.
"""

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from joblib import Parallel, delayed

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn before 1.9, where the name is ours and redefines none

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: there are no callbacks."""

    def with_callbacks(method: Any) -> Any:
        """Return the method: there are no callbacks."""
        return method


# Where scikit-learn keeps the callbacks that `set_callbacks` was given. It has no public way to ask
# whether there are any, or to leave them out of a pickle.
CALLBACKS = "_skl_callbacks"
# Seconds for which a count may be out of date.
_PAUSE = 0.1
_WITHOUT_TOTAL = "{desc} [{elapsed}]"
_WITH_TOTAL = (
    "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
)

_LOSSES = {"train_loss": "loss", "valid_loss": "validation"}

_here = threading.local()


class Stage:
    """Work that is under way: a number of equal parts, or one part of unknown length."""

    def __init__(self, words: str, total: int | None, display: "_Display") -> None:
        self.words, self.total, self.n_done = words, total, 0
        self.start = time.perf_counter()
        self.values: Mapping[str, Any] = {}
        self._line, self._estimator = display.line, display.estimator
        self._task: Any = None
        self._part: Any = None
        if display.task is not None:
            self._task = display.task.subcontext(task_name=words, max_subtasks=total)
            self._task.call_on_fit_task_begin(estimator=self._estimator)
            self._next_part()
        # What stages inside are subtasks of; parts that are counted have none.
        self.task = self._task if total is None else None

    def _next_part(self, *, last: bool = False) -> bool:
        """Tell scikit-learn's callbacks that a part ended and one begins; return "stop"."""
        part, self._part = self._part, None
        stop = part is not None and part.call_on_fit_task_end(estimator=self._estimator)
        if not last and self.total is not None and self.n_done < self.total:
            self._part = self._task.subcontext(task_name=self.words)
            self._part.call_on_fit_task_begin(estimator=self._estimator)
        return stop

    def done(self, values: Mapping[str, Any] | None = None) -> bool:
        """Count one part, with its losses; return whether a callback asks to stop."""
        self.n_done += 1
        self.values = values or {}
        if self._line is not None:
            self._line.count()
        return self._task is not None and self._next_part()

    def end(self) -> None:
        """Tell scikit-learn's callbacks that the stage ended, as a whole or early."""
        if self._task is not None:
            self._next_part(last=True)
            self._task.call_on_fit_task_end(estimator=self._estimator)

    def __str__(self) -> str:
        """Name the stage, and how far it is."""
        return self.words if self.total is None else f"{self.words} {self.n_done}/{self.total}"


class _Line:
    """One line on a terminal, or in a notebook, that names the stages and counts the innermost."""

    def __init__(self, name: str, tqdm: Any) -> None:
        self.name = name
        self.stages: list[Stage] = []
        self.stopped = ""
        self.start = time.perf_counter()
        self._drawn = 0.0
        self._shown: Stage | None = None
        self._bar = tqdm(desc=name, bar_format=_WITHOUT_TOTAL, dynamic_ncols=True)

    def enter(self, stage: Stage) -> None:
        """Show a stage that begins."""
        self.stages.append(stage)
        self.stopped = ""
        self._draw(time.perf_counter())

    def leave(self, stage: Stage, failed: bool) -> None:
        """Take a stage off, and those inside that were not left; remember where work stopped."""
        if failed and not self.stopped:
            self.stopped = ", ".join(map(str, self.stages))
        if stage in self.stages:
            del self.stages[self.stages.index(stage) :]

    def count(self) -> None:
        """Show how many parts are done, unless the line was drawn a moment ago."""
        now = time.perf_counter()
        if now - self._drawn >= _PAUSE and self.stages:
            self._draw(now)

    def _draw(self, now: float) -> None:
        """Show the stages and the count of the innermost."""
        self._drawn = now
        stage, bar = self.stages[-1], self._bar
        words = ", ".join([*map(str, self.stages[:-1]), stage.words])
        bar.set_description_str(f"{self.name}: {words}", refresh=False)
        found = {word: stage.values.get(name) for name, word in _LOSSES.items()}
        # Those of many students at once are left out.
        losses = [f"{word}={v:.4f}" for word, v in found.items() if isinstance(v, float)]
        bar.set_postfix_str(", ".join(losses), refresh=False)
        bar.bar_format = _WITHOUT_TOTAL if stage.total is None else _WITH_TOTAL
        if stage is not self._shown:
            self._shown = stage
            bar.total = None
            bar.reset(stage.total)
            bar.start_t -= now - stage.start
            if stage.n_done == 0:
                return
        bar.n = stage.n_done
        bar.refresh()

    def close(self, failed: bool) -> None:
        """Leave one line that says how long it took, and where it stopped."""
        seconds = time.perf_counter() - self.start
        words = f"done in {seconds:.1f} s"
        # A notebook draws a bar in red that ends below its total.
        self._bar.total = self._bar.total or 1
        self._bar.n = self._bar.total - failed
        if failed:
            where = f", {self.stopped}" if self.stopped else ""
            words = f"stopped after {seconds:.1f} s{where}"
        self._bar.bar_format = "{desc}"
        self._bar.set_description_str(f"{self.name}: {words}", refresh=False)
        self._bar.close()


class _Display:
    """Where a thread shows its stages: a line, and scikit-learn's callbacks by the current task."""

    def __init__(self, line: _Line | None = None, estimator: Any = None) -> None:
        self.line, self.estimator = line, estimator
        self.task: Any = None
        self.process = os.getpid()


_NOWHERE = _Display()


def _current() -> _Display:
    """Return where this thread shows its stages; a forked process has none of its own."""
    display: _Display = getattr(_here, "display", _NOWHERE)
    return display if display is _NOWHERE or display.process == os.getpid() else _NOWHERE


@contextmanager
def stage(words: str, total: int | None = None) -> Iterator[Stage | None]:
    """Show a stage while it runs; None if it is shown nowhere, so that nothing need be counted."""
    display = _current()
    line, outer = display.line, display.task
    if line is None and outer is None:
        yield None
        return
    here = Stage(words, total, display)
    display.task = here.task
    failed = True
    try:
        if line is not None:
            line.enter(here)
        yield here
        here.end()
        failed = False
    finally:
        display.task = outer
        if line is not None:
            line.leave(here, failed)


def track(words: str, items: Iterable[Any], total: int) -> Iterator[Any]:
    """Yield the items of a stage; one is done when the next is asked for."""
    with stage(words, total) as here:
        for item in items:
            yield item
            if here is not None:
                here.done()


def run_counted(words: str, jobs: Sequence[Any], n_jobs: int | None) -> list[Any]:
    """Run delayed calls with joblib and return their results; each is counted when it is ready."""
    with stage(words, len(jobs)) as here:
        if here is None:
            return Parallel(n_jobs=n_jobs)(jobs)
        results = {}
        numbered = (delayed(_run)(number, job) for number, job in enumerate(jobs))
        for number, result in _parallel(n_jobs)(numbered):
            results[number] = result
            here.done()
        return [results[number] for number in range(len(jobs))]


def _parallel(n_jobs: int | None) -> Parallel:
    """Return what gives results when they are ready; all at the end where the backend must wait."""
    try:
        return Parallel(n_jobs=n_jobs, return_as="generator_unordered")
    except ValueError:
        return Parallel(n_jobs=n_jobs)


def _run(number: int, job: Any) -> tuple[int, Any]:
    """Run a delayed call; its number tells where its result belongs."""
    function, arguments, keywords = job
    return number, function(*arguments, **keywords)


@contextmanager
def live_line(name: str, verbose: int, estimator: Any = None) -> Iterator[_Display]:
    """Show the stages inside on one live line: the one around, or, if asked to, a new one.

    A new line is closed however the work ends.
    """
    outer = _current()
    tqdm = _find_tqdm() if verbose and outer.line is None else None
    line, failed = None, True
    try:
        if tqdm is not None:
            line = _Line(name, tqdm)
        _here.display = display = _Display(line or outer.line, estimator)
        yield display
        failed = False
    finally:
        _here.display = outer
        if line is not None:
            line.close(failed)


@contextmanager
def follow(estimator: Any, X: Any = None, y: Any = None) -> Iterator[None]:
    """Show the stages of a fit: on a line with `verbose`, and to scikit-learn's callbacks.

    A fit inside another one writes on the other's line.
    """
    with live_line(type(estimator).__name__, estimator.verbose, estimator) as display:
        try:
            task = None
            if getattr(estimator, CALLBACKS, None):
                # The one private name that scikit-learn documents for estimators of others.
                task = estimator._init_callback_context(max_subtasks=None)
                task.call_on_fit_task_begin(estimator=estimator, X=X, y=y)
            display.task = task
            yield
            if task is not None:
                # No attributes to add: the estimator is fitted now.
                task.call_on_fit_task_end(
                    estimator=estimator, X=X, y=y, reconstruction_attributes={}
                )
        finally:
            _tear_down(estimator)


@contextmanager
def hand_over(words: str, estimator: Any) -> Iterator[None]:
    """Hand scikit-learn's callbacks on to the fit of an estimator inside."""
    display = _current()
    if display.task is None:
        yield
        return
    task = display.task.subcontext(task_name=words)
    with task.propagate_callback_context(estimator):
        task.call_on_fit_task_begin(estimator=display.estimator)
        yield
        task.call_on_fit_task_end(estimator=display.estimator)


@with_callbacks
def _tear_down(estimator: Any) -> None:
    """Let scikit-learn tear down the callbacks it set up; a decorated fit would be a frame more."""


def _find_tqdm() -> Any:
    """Import tqdm, or say that it is missing."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        print("verbose=1 shows progress with tqdm: pip install tqdm", file=sys.stderr)
        return None
    return tqdm
