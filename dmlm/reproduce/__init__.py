"""The paper's tables from nothing: a plan of runs (plain data), a runner that resumes, and tables beside the paper's.

Add a table: write a function ``(Scale) -> Plan`` and name it in :data:`dmlm.reproduce.catalog.PLANS`; running,
resuming, SLURM arrays, gathering and drawing need nothing more.
"""
