"""dataset: rows to Parquet, the manifest of a run, and back again as data frames.

`schema` turns row types into Parquet schemas, `manifest` says what a run was, `writer` keeps what is finished even when the
machine dies, `reader` gives data frames, `check` proves that a folder is what its manifest says. `store` is the one door to them.
"""
