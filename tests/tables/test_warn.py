"""Where warnings point."""

import pytest
from quick_students import make_data, quick
from sklearn.neighbors import KNeighborsClassifier


@pytest.mark.parametrize(
    ("cv", "words"), [("prefit", "exactly 0 or 1"), (3, "does not take sample_weight")]
)
def test_warnings_point_at_the_line_of_the_user(cv, words):
    X, y = make_data()
    # joblib stands between the user's line and the fit of a teacher.
    student = quick([KNeighborsClassifier(1).fit(X, y)], cv=cv)
    with pytest.warns(UserWarning, match=words) as caught:
        student.fit(X, y, sample_weight=1 + (y == "no"))
    assert {w.filename for w in caught} == {__file__}
