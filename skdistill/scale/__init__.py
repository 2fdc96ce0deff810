"""Tables that outgrow one machine: teachers on a cluster, soft targets in Parquet files.

``bundle`` is the public TeacherBundle, and the TeacherLabeller that workers run. ``labelling`` is
``label_parquet``, here or on a Dask cluster. ``parquet`` labels one file, and has the result that
``fit_stream`` reads. ``storage`` writes files that are whole or not there.

Nothing is exported here, so that importing the room needs no extra: no other room uses it, and
users import from :mod:`skdistill.distributed`.
"""
