"""What many teachers and many rows cost in memory: a few times the soft targets, at any number.

Twelve answers of two million rows and ten classes would be 1.9 GB in float64; the soft targets are
a twelfth of that.
"""

import pytest

CODE = """
import resource, warnings
import numpy as np
import psutil
from skdistill import CallableTeacher, DistilledClassifier

# One epoch makes poor students, and says so.
warnings.simplefilter("ignore")
n, n_teachers, k = (int(text) for text in sys.argv[1:])
rng = np.random.default_rng(0)
X = rng.normal(size=(n, 4)).astype(np.float32)
weights = rng.normal(size=(n_teachers, 4, k)).astype(np.float32)
y = (X @ weights[0]).argmax(axis=1)

class Linear:
    def __init__(self, W):
        self.W = W

    def __call__(self, X):
        proba = np.exp(X @ self.W)
        proba /= proba.sum(axis=1, keepdims=True)
        return proba

teachers = [CallableTeacher(Linear(W), np.arange(k)) for W in weights]
params = dict(max_epochs=1, hidden_layer_sizes=(8,), batch_size=4096, augment=None, random_state=0)
student = DistilledClassifier(teachers, **params)
# What is loaded on first use is not the rows' fault.
student.fit(X[:9000], y[:9000])

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

start = psutil.Process().memory_info().rss
student.fit(X, y)
print(peak() - start)
"""


@pytest.mark.slow
def test_twelve_teachers_two_million_rows_ten_classes(fresh_process):
    """Beside X and y, a fit takes nine times the soft targets."""
    n, n_teachers, k = 2_000_000, 12, 10
    assert int(fresh_process(CODE, n, n_teachers, k, timeout=900)) < 9 * n * k * 8
