"""Laws of the version stamps in pickles."""

import pickle
import warnings
from importlib.metadata import version

import pytest
from students_zoo import make_student

from skdistill import SkdistillVersionWarning
from skdistill.student import check_stamp, stamp

PACKAGES = ("skdistill", "scikit-learn", "numpy")


def test_a_stamp_names_the_installed_versions():
    assert stamp() == {name: version(name) for name in PACKAGES}


def test_equal_versions_are_silent_and_the_stamp_is_taken_out():
    state = {"a": 1, "_versions": stamp()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_stamp(state, "Thing")
        check_stamp(state, "Thing")
    assert state == {"a": 1}


@pytest.mark.parametrize("name", PACKAGES)
def test_another_version_warns_and_names_both(name):
    state = {"_versions": {**stamp(), name: "0.0.1"}}
    words = rf"This Thing was pickled with {name} 0\.0\.1 \(now {version(name)}\)\..*save\(\)"
    with pytest.warns(SkdistillVersionWarning, match=words) as caught:
        check_stamp(state, "Thing")
    assert len(caught) == 1
    assert state == {}


def test_all_changes_are_named_at_once():
    with pytest.warns(SkdistillVersionWarning) as caught:
        check_stamp({"_versions": dict.fromkeys(PACKAGES, "0")}, "Thing")
    assert all(f"{name} 0 (now" in str(caught[0].message) for name in PACKAGES)


def test_a_stamp_of_fewer_or_more_packages_is_read():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_stamp({"_versions": {"numpy": version("numpy"), "other": "1"}}, "Thing")
        check_stamp({}, "Thing")


def test_an_old_pickle_of_a_student_warns_and_answers(monkeypatch):
    student = make_student()
    with monkeypatch.context() as patched:
        patched.setattr("skdistill.student.base.stamp", lambda: dict.fromkeys(PACKAGES, "0"))
        written = pickle.dumps(student)
    with pytest.warns(SkdistillVersionWarning, match="This StudentClassifier"):
        loaded = pickle.loads(written)
    assert not hasattr(loaded, "_versions")
    assert loaded.n_parameters_ == student.n_parameters_


def test_the_warning_is_a_user_warning():
    assert issubclass(SkdistillVersionWarning, UserWarning)
