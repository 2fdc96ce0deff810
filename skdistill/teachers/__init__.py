"""Anything fitted -> answers: the teachers, asked for soft targets and for hidden layers.

What users import stands here; other rooms import by file, as every name here is public.
They ask a source of soft targets, chosen once by ``choice``. From there down:

* ``sources``: what all of them do, rows that only the teachers label, and the sources that fit no
  teacher; ``cross_fitting``: those that do
* ``asking``: one teacher asked, or the mean of many; ``fitting``: one teacher fitted
* ``pooling``: many answers to one, by weights or a rule, and its confidence
* ``answers``: what other libraries take and return
* ``naming``: the parameter `teachers` -> named entries, and what pickles put there
* ``adapters``: what is no scikit-learn classifier, as one
* ``hints``, ``hidden``: what the student's layers are to match
* ``progress``: what is shown of work that takes long

Teachers of a new library begin with ``asking`` and ``fitting``, their layers with ``hidden``.
``progress`` stands here because it is the first room whose work takes long.
"""

from skdistill.teachers.adapters import CallableTeacher, TorchTeacher
from skdistill.teachers.naming import TeachersLeftBehind

__all__ = ["CallableTeacher", "TeachersLeftBehind", "TorchTeacher"]
