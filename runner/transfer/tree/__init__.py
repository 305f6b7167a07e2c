"""Copies directories: see `tree/tree.py`."""
