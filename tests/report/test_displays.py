"""Laws of all displays: they compute, store, draw where they are told, and give numbers back."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from quick_students import fitted_teacher, make_data, quick
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skdistill
from skdistill import (
    AgreementDisplay,
    DistillationDisplay,
    DistilledClassifierCV,
    SweepDisplay,
    TrainingCurveDisplay,
    distillation_report,
    metrics,
)
from skdistill.report import plotting


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@dataclass
class World:
    """One student, its rows, and what is made of them."""

    X: np.ndarray
    y: np.ndarray
    student: Any
    search: Any
    report: Any

    def ensemble_proba(self, X: np.ndarray) -> np.ndarray:
        return self.student.teachers[0].predict_proba(X)


@pytest.fixture(scope="module")
def world():
    X, y = make_data(200)
    student = quick([fitted_teacher(X, y)], early_stopping=True).fit(X, y)
    inner = quick([LogisticRegression()], cv=2, max_epochs=5)
    search = DistilledClassifierCV(inner, temperatures=[1, 2, 4], alphas=[0, 1], cv=2).fit(X, y)
    report = distillation_report(student, X, y, X_train=X, y_train=y, random_state=0)
    return World(X, y, student, search, report)


# Every way to make a display, as a function of the world and of keywords.
MAKERS: dict[str, Callable[..., Any]] = {
    "DistillationDisplay.from_report": lambda w, **kw: DistillationDisplay.from_report(
        w.report, **kw
    ),
    "DistillationDisplay.from_estimator": lambda w, **kw: DistillationDisplay.from_estimator(
        w.student, w.X, w.y, **kw
    ),
    "SweepDisplay.from_estimator": lambda w, **kw: SweepDisplay.from_estimator(w.search, **kw),
    "SweepDisplay.from_cv_results": lambda w, **kw: SweepDisplay.from_cv_results(
        w.search.cv_results_, **kw
    ),
    "TrainingCurveDisplay.from_estimator": lambda w, **kw: TrainingCurveDisplay.from_estimator(
        w.student, **kw
    ),
    "AgreementDisplay.from_estimator": lambda w, **kw: AgreementDisplay.from_estimator(
        w.student, w.X, w.y, **kw
    ),
    "AgreementDisplay.from_predictions": lambda w, **kw: AgreementDisplay.from_predictions(
        w.ensemble_proba(w.X), w.student.predict_proba(w.X), w.y, labels=w.student.classes_, **kw
    ),
}


@pytest.fixture(params=MAKERS)
def make(request, world):
    return partial(MAKERS[request.param], world)


def test_every_display_is_here():
    public = {name for name in skdistill.__all__ if name.endswith("Display")}
    assert public == {name.partition(".")[0] for name in MAKERS}


def test_it_draws_in_a_figure_of_its_own(make):
    others = plt.get_fignums()
    display = make()
    assert len(plt.get_fignums()) == len(others) + 1
    assert display.figure_ is display.ax_.figure
    assert display.ax_.get_xlabel()
    assert display.ax_.get_ylabel()


def test_it_draws_where_it_is_told(make):
    _, (left, right) = plt.subplots(1, 2)
    assert make(ax=right).ax_ is right
    assert not left.has_data()
    assert len(plt.get_fignums()) == 1


def test_what_it_stores_makes_it_again(make):
    display = make()
    stored = {k: v for k, v in vars(display).items() if not k.endswith("_")}
    again = type(display)(**stored)
    assert not hasattr(again, "ax_")
    assert again.plot() is again
    assert again.ax_ is not display.ax_
    assert again.frame().equals(display.frame())
    assert len(again.ax_.get_children()) == len(display.ax_.get_children())


def test_plotting_again_draws_anew(make):
    display = make()
    first = display.ax_
    assert display.plot().ax_ is not first


def test_the_frame_has_rows_and_names(make):
    frame = make().frame()
    assert len(frame) > 1
    assert all(isinstance(name, str) for name in frame.columns)


def test_it_is_drawn_without_a_warning_and_stays_within_its_figure(make):
    display = make()
    ax, figure = display.ax_, display.figure_
    figure.canvas.draw()
    width, height = figure.get_size_inches() * figure.dpi
    for text in filter(plt.Text.get_text, (*ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label)):
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.x1 <= width, text
        assert box.y0 >= 0, text
        assert box.y1 <= height, text


@pytest.mark.parametrize("name", MAKERS)
def test_without_matplotlib_it_says_what_to_install(name, world, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=f"{name} needs matplotlib.*skdistill.plot.") as caught:
        MAKERS[name](world)
    assert "pip install" in str(caught.value)


def test_plot_without_matplotlib_says_the_same(monkeypatch):
    display = TrainingCurveDisplay(history={"train_loss": [1.0, 0.5]})
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"TrainingCurveDisplay\.plot needs matplotlib"):
        display.plot()


def test_frame_without_pandas_says_what_to_install(make, monkeypatch):
    display = make()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"frame\(\) needs pandas.*skdistill\[plot\]"):
        display.frame()


def test_displays_load_without_matplotlib(fresh_process):
    code = """
    import skdistill
    for name in skdistill.__all__:
        if name.endswith("Display"):
            getattr(skdistill, name)
    print(*sorted({"matplotlib", "pandas"} & set(sys.modules)))
    """
    assert fresh_process(code, forbid=("matplotlib", "pandas")).split() == []


def test_colours_differ_in_grey():
    colours = (plotting.BLACK, plotting.BLUE, plotting.GREEN, plotting.ORANGE, plotting.GREY)
    greys = sorted(np.dot(to_rgb(c), [0.299, 0.587, 0.114]) for c in colours)
    assert len({round(g, 2) for g in greys}) == len(colours)


# DistillationDisplay


@pytest.mark.parametrize("metric", ["accuracy", "log_loss", "roc_auc", "brier", "ece"])
def test_distillation_shows_the_numbers_of_the_report(world, metric):
    display = DistillationDisplay.from_report(world.report, metric=metric)
    frame = display.frame()
    assert frame["name"].tolist() == [row.name for row in world.report.rows]
    assert frame[metric].tolist() == [getattr(row, metric) for row in world.report.rows]
    assert frame["latency"].tolist() == [row.latency_p50 for row in world.report.rows]
    points = np.concatenate([c.get_offsets() for c in display.ax_.collections])
    expected = frame[["latency", metric]].to_numpy()
    np.testing.assert_allclose(sorted(points.tolist()), sorted(expected.tolist()))
    assert display.ax_.get_xscale() == "log"


def test_distillation_passes_arguments_to_the_report(world):
    display = DistillationDisplay.from_estimator(
        world.student.student_,
        world.X,
        world.y,
        baseline=fitted_teacher(world.X, world.y),
        teachers=[("passed", fitted_teacher(world.X, world.y))],
        metric="accuracy",
    )
    assert list(display.names) == ["passed", "ensemble", "plain student", "distilled student"]


def test_distillation_refuses_other_scores(world):
    with pytest.raises(ValueError, match=r"metric must be one of .*, got 'kl'"):
        DistillationDisplay.from_report(world.report, metric="kl")
    with pytest.raises(ValueError, match=r"metric must be one of .*, got 'f1'"):
        DistillationDisplay.from_estimator(world.student, world.X, world.y, metric="f1")


def draw_models(n_teachers, **changes):
    names = [f"net {i}" for i in range(n_teachers)]
    numbers = {
        "names": [*names, "distilled student"],
        "roles": ["teacher"] * n_teachers + ["distilled"],
        "quality": np.full(n_teachers + 1, 0.3),
        "latency": np.array([1e-2] * n_teachers + [1e-5]),
        "n_bytes": [10_000_000] * n_teachers + [1_000],
    }
    return DistillationDisplay(**{**numbers, **changes}).plot()


def test_larger_models_have_larger_markers():
    teacher, student = draw_models(1).ax_.collections
    assert teacher.get_sizes()[0] == pytest.approx(student.get_sizes()[0] + 4 * 50)


def test_models_of_unknown_size_are_named_without_one():
    texts = [t.get_text() for t in draw_models(1, n_bytes=[None, 1_000]).ax_.texts]
    assert texts == ["net 0", "distilled student, 1.00 kB"]


def test_labels_of_models_in_one_place_do_not_overlap():
    display = draw_models(4)
    display.figure_.canvas.draw()
    boxes = [text.get_window_extent() for text in display.ax_.texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_a_crowd_of_teachers_stands_in_the_legend():
    display = draw_models(5)
    assert [t.get_text() for t in display.ax_.texts] == ["distilled student, 1.00 kB"]
    legend = [t.get_text() for t in display.ax_.get_legend().get_texts()]
    assert legend == ["teacher", "distilled student"]


# SweepDisplay


def test_sweep_shows_every_score_in_its_cell(world):
    display = SweepDisplay.from_estimator(world.search)
    results = world.search.cv_results_
    found = {(r.alpha, r.temperature): r.score for r in display.frame().itertuples()}
    for params, score in zip(results["params"], results["mean_test_score"], strict=True):
        assert found[params["alpha"], params["temperature"]] == pytest.approx(score)
    assert display.image_.get_array().shape == (2, 3)


def test_sweep_names_the_best_that_the_search_named(world):
    display = SweepDisplay.from_estimator(world.search)
    assert display.best == world.search.best_params_
    (outer, inner) = display.ax_.patches
    ticks = [t.get_text() for t in display.ax_.get_xticklabels()]
    column = round(inner.get_x() + inner.get_width() / 2)
    assert float(ticks[column]) == world.search.best_params_["temperature"]
    assert outer.get_bbox().bounds == inner.get_bbox().bounds


def test_sweep_takes_a_grid_search_over_a_pipeline_and_more(world):
    grid = {
        "distilledclassifier__temperature": [2, 1],
        "distilledclassifier__alpha": [0.5, 1.0],
        "standardscaler__with_mean": [True, False],
    }
    model = make_pipeline(StandardScaler(), clone(world.search.estimator))
    search = GridSearchCV(
        model, grid, scoring=["accuracy", "neg_log_loss"], refit="neg_log_loss", cv=2
    ).fit(world.X, world.y)
    display = SweepDisplay.from_estimator(search, score="neg_log_loss")
    results = search.cv_results_
    for r in display.frame().itertuples():
        here = (results["param_distilledclassifier__alpha"] == r.alpha) & (
            results["param_distilledclassifier__temperature"] == r.temperature
        )
        assert r.score == pytest.approx(results["mean_test_neg_log_loss"][here].max())
    best = {k: search.best_params_[f"distilledclassifier__{k}"] for k in display.best}
    assert display.best == best
    with pytest.raises(ValueError, match=r"score must name one of .*mean_test_accuracy"):
        SweepDisplay.from_estimator(search)


def make_results(scores, temperatures, alphas):
    return {
        "param_temperature": np.array(temperatures, dtype=object),
        "param_alpha": np.array(alphas, dtype=object),
        "mean_test_score": np.array(scores, dtype=float),
    }


def test_cells_that_were_not_tried_stay_empty():
    results = make_results([0.7, 0.8, np.nan], [1, 2, 1], [0.5, 1.0, 1.0])
    display = SweepDisplay.from_cv_results(results)
    np.testing.assert_array_equal(display.scores, [[0.7, np.nan], [np.nan, 0.8]])
    assert [t.get_text() for t in display.ax_.texts] == ["0.700", "0.800"]
    assert display.best == {"temperature": 2.0, "alpha": 1.0}


def test_many_cells_hold_no_numbers():
    display = SweepDisplay(
        temperatures=range(1, 12), alphas=np.linspace(0, 1, 11), scores=np.eye(11)
    )
    assert not display.plot().ax_.texts


@pytest.mark.parametrize("cmap", ["cividis", "Greys"])
def test_scores_can_be_read_on_their_cells(cmap):
    display = SweepDisplay(temperatures=[1, 2], alphas=[0], scores=[[0.0, 1.0]]).plot(cmap=cmap)
    for text, value in zip(display.ax_.texts, [0.0, 1.0], strict=True):
        cell = np.dot(display.image_.cmap(value)[:3], [0.299, 0.587, 0.114])
        ink = np.dot(to_rgb(text.get_color()), [0.299, 0.587, 0.114])
        assert abs(cell - ink) > 0.4


def test_sweep_refuses_what_was_not_searched(world):
    results = world.search.cv_results_
    without = {k: v for k, v in results.items() if k != "param_alpha"}
    with pytest.raises(ValueError, match=r"one parameter 'alpha'.*it holds \['temperature'\]"):
        SweepDisplay.from_cv_results(without)
    with pytest.raises(TypeError, match="with cv_results_; got a LogisticRegression"):
        SweepDisplay.from_estimator(fitted_teacher(world.X, world.y))
    with pytest.raises(ValueError, match="is NaN: there is nothing to draw"):
        SweepDisplay.from_cv_results(make_results([np.nan], [1], [1]))


# TrainingCurveDisplay


def test_curves_are_those_of_the_history(world):
    display = TrainingCurveDisplay.from_estimator(world.student)
    history = world.student.history_
    assert set(display.lines_) == set(history)
    for name, line in display.lines_.items():
        np.testing.assert_allclose(line.get_ydata(), history[name])
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, world.student.n_iter_ + 1))
    assert display.best_epoch == 1 + np.argmin(history["valid_loss"])
    styles = {line.get_linestyle() for line in display.lines_.values()}
    assert len(styles) >= 3


def test_terms_without_a_part_are_not_drawn(world):
    plain = quick([fitted_teacher(world.X, world.y)], alpha=0.0).fit(world.X, world.y)
    display = TrainingCurveDisplay.from_estimator(make_pipeline(plain))
    assert set(display.lines_) == {"train_loss", "train_hard_loss"}
    assert display.best_epoch is None


def test_a_frozen_student_has_no_curves(world):
    with pytest.raises(TypeError, match=r"A StudentClassifier holds no history_"):
        TrainingCurveDisplay.from_estimator(world.student.student_)


# AgreementDisplay


def test_agreement_is_that_of_the_metric(world):
    teacher, student = world.ensemble_proba(world.X), world.student.predict_proba(world.X)
    frame = AgreementDisplay.from_estimator(world.student, world.X, world.y).frame()
    agreement = 1 - frame["n_differ"].sum() / frame["n_rows"].sum()
    assert agreement == pytest.approx(metrics.agreement_score(teacher, student))
    right = frame[["ensemble_right", "student_right", "neither_right"]].sum(axis=1)
    assert right.tolist() == frame["n_differ"].tolist()


def test_agreement_counts_by_confidence_as_a_loop_does():
    rng = np.random.default_rng(0)
    teacher, student = rng.dirichlet(np.ones(3), size=(2, 500))
    y = rng.integers(3, size=500)
    frame = AgreementDisplay.from_predictions(teacher, student, y, n_bins=5).frame()
    named, answered, confidence = teacher.argmax(1), student.argmax(1), teacher.max(1)
    assert frame["n_rows"].sum() == 500
    for row in frame.itertuples():
        here = (confidence > row.low) & (confidence <= row.high)
        differ = here & (named != answered)
        assert row.n_rows == here.sum()
        assert row.n_differ == differ.sum()
        assert row.ensemble_right == (differ & (named == y)).sum()
        assert row.student_right == (differ & (answered == y)).sum()


def test_bars_are_shares_of_their_bins():
    teacher = [[0.9, 0.1], [0.95, 0.05], [0.6, 0.4], [0.5, 0.5]]
    student = [[0.2, 0.8], [0.9, 0.1], [0.4, 0.6], [0.6, 0.4]]
    display = AgreementDisplay.from_predictions(teacher, student, n_bins=2)
    assert [bar.get_height() for bar in display.ax_.patches] == [0.5, 0.5]
    assert [text.get_text() for text in display.ax_.texts] == ["2", "2"]
    assert display.ax_.get_legend() is None


def test_hatches_tell_who_is_right_in_grey():
    teacher, student = np.tile([0.6, 0.3, 0.1], (3, 1)), np.tile([0.3, 0.6, 0.1], (3, 1))
    display = AgreementDisplay.from_predictions(teacher, student, [0, 1, 2])
    bars = [bar for bar in display.ax_.patches if bar.get_height() > 0]
    assert len(bars) == len({bar.get_hatch() for bar in bars}) == 3


def test_agreement_refuses_what_does_not_match(world):
    proba = world.ensemble_proba(world.X)
    with pytest.raises(ValueError, match=r"has shape \(200, 2\) and student_proba \(199, 2\)"):
        AgreementDisplay.from_predictions(proba, proba[1:])
    with pytest.raises(ValueError, match=r"y_true holds \['maybe'\]"):
        AgreementDisplay.from_estimator(world.student, world.X, ["maybe"] * len(world.X))
    with pytest.raises(ValueError, match="n_bins must be 1 or more, got 0"):
        AgreementDisplay.from_predictions(proba, proba, n_bins=0)
    with pytest.raises(ValueError, match="holds no teachers"):
        AgreementDisplay.from_estimator(world.student.student_, world.X)
