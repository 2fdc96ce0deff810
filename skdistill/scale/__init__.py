"""Tables that outgrow one machine: teachers on a cluster, soft targets in Parquet files.

``bundle`` is the public TeacherBundle, ``bundle_files`` its joblib files and manifest, and
``labeller`` the function that workers run. ``labelling`` is ``label_parquet``, here or on a Dask
cluster, ``file_task`` the labelling of one file, ``shards`` the result that ``fit_stream`` reads,
``parquet`` what both know of Parquet files, ``storage`` files that are whole or not there.

Nothing is exported here, so that importing the room needs no extra: no other room uses it, and
users import from :mod:`skdistill.distributed`.
"""
