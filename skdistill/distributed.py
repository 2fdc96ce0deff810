"""Label tables that outgrow one machine: teachers on a Dask cluster, one Parquet file a task.

Needs the extra ``skdistill[dask]``. Without a cluster the same code runs in this process and
writes the same bytes.
"""

from skdistill.scale.bundle import TeacherBundle, TeacherLabeller
from skdistill.scale.labelling import LabellingError, label_parquet
from skdistill.scale.parquet import LabelledParquet

__all__ = ["LabelledParquet", "LabellingError", "TeacherBundle", "TeacherLabeller", "label_parquet"]
