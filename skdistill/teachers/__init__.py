"""Anything fitted -> answers: the teachers, asked for soft targets and for hidden layers.

What users import stands here; other rooms import by file, as every name here is public.
``sources`` holds what they ask: where soft targets come from, chosen once. From there down:

* ``target_source``: what all sources do, and those that fit no teacher; ``cross_fitting``: those
  that do, on folds or out of bag; ``transfer``: rows that only the teachers label
* ``ensemble``, ``pooling``, ``calibration``: many answers to one, and its confidence
* ``asking``, ``fitting``: one teacher asked, one fitted; ``alignment``: its columns
* ``naming``: the parameter `teachers` -> named entries; ``left_behind``: what pickles put there
* ``adapters``: what is no scikit-learn classifier, as one; ``libraries``: what others' objects need
* ``hints``, ``hidden``: what the student's layers are to match
* ``progress``: what is shown of work that takes long; ``shared_setting``: what threads share

Teachers of a new library begin with ``asking`` and ``fitting``, their layers with ``hidden``.
"""

from skdistill.teachers.adapters import CallableTeacher, TorchTeacher
from skdistill.teachers.left_behind import TeachersLeftBehind

__all__ = ["CallableTeacher", "TeachersLeftBehind", "TorchTeacher"]
