"""Files: atomic writes, run folders and their copies in object stores, episodes in Parquet, adapter versions."""
