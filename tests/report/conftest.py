"""What the tests of reports and displays share."""

from functools import partial

import pytest

from skdistill.report.cost import measure_speed


@pytest.fixture(autouse=True, scope="package")
def measure_briefly():
    """Time models for milliseconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "skdistill.report.report.measure_speed", partial(measure_speed, seconds=0.002)
        )
        yield
