"""Files: atomic writes, run folders, episodes in Parquet, adapter versions."""
