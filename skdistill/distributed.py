"""Label tables that outgrow one machine. Needs the extra ``skdistill[dask]``."""

from skdistill.scale.bundle import TeacherBundle
from skdistill.scale.labeller import TeacherLabeller
from skdistill.scale.labelling import LabellingError, label_parquet
from skdistill.scale.shards import LabelledParquet

__all__ = ["LabelledParquet", "LabellingError", "TeacherBundle", "TeacherLabeller", "label_parquet"]
