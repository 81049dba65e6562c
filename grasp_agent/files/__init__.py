"""Writing to disk: whole files, locked folders, digests, records and progress."""
