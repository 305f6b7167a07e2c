"""Moves many files at once over one SFTP session: see `batch.py`."""
