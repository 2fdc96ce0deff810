"""What people construct: the distilled classifier, and the search over its temperature and alpha.

* ``classifier`` is read first: the parameters, and `fit` as the table of contents. ``base`` is what
  any distilled estimator is beside that: parameters, clones, tags, routing, pickles (``pickling``).
* ``settings`` has the rule for each parameter, and sorts them by who uses them.
* ``distil`` goes from rows and teachers to a trained student, ``incremental`` the same for shards
  and batches. Soft targets come from the room `teachers`, training is done in `training`.
* ``search`` is what searches share, ``classifier_cv`` the search over temperature and alpha.
"""

from skdistill.estimators.classifier import DistilledClassifier
from skdistill.estimators.classifier_cv import DistilledClassifierCV
from skdistill.estimators.search import fit_arguments, read_fold, seeded, warn_about_prefit
from skdistill.estimators.settings import RULES

__all__ = [
    "RULES",
    "DistilledClassifier",
    "DistilledClassifierCV",
    "fit_arguments",
    "read_fold",
    "seeded",
    "warn_about_prefit",
]
