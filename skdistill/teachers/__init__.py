"""Anything fitted -> answers: the teachers, asked for soft targets and for hidden layers.

`sources` decides where soft targets come from, the object that everything else asks. What it is
made of, from one teacher to all of them:

* `adapters`: what is no scikit-learn classifier, as one; `left_behind`: what pickles put there
* `naming`: the parameter `teachers` -> named entries; `libraries`: whose objects they are
* `asking`, `fitting`: one teacher asked, one teacher fitted; `alignment`: its columns
* `ensemble`, `pooling`, `calibration`: many answers to one, and its confidence
* `cross_fitting`, `fitted_inside`: teachers that are fitted inside `fit`
* `transfer`: rows that only the teachers label
* `hints`, `hidden`: what the student's layers are to match
* `progress`: what is shown of work that takes long; `shared_setting`: one thread while many ask

To add teachers of a new library, begin with `asking` and `fitting`; for its layers, `hidden`.
"""

from skdistill.teachers.adapters import CallableTeacher, TorchTeacher
from skdistill.teachers.left_behind import TeachersLeftBehind

__all__ = ["CallableTeacher", "TeachersLeftBehind", "TorchTeacher"]
