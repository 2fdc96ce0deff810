"""More rows than one machine holds: teachers as files, Parquet, labelling on a cluster."""
