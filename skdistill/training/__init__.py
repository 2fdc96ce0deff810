"""From prepared rows to a trained student.

* What is asked of a student, and what "auto" stands for: ``spec``.
* The rows: ``data`` (in memory), ``shards`` and ``stream`` (a few files at a time), ``batches``
  (with targets that the student of the epoch before has a part in).
* The network, ours or the user's, to frozen layers and back: ``network``.
* What is minimised: ``objective``, with ``hint_terms``; how: ``step`` (forward, backward and Adam
  on the CPU), ``net`` (skorch's loop, early stopping, divergence), ``threads``.
* All of it together: ``trainer``; the measure of confidence and of teachers: ``control``.

Other rooms import from the files: an estimator is unpickled, and its student predicts, without
torch and skorch, which ``trainer`` loads.
"""
