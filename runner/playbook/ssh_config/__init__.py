"""Asks OpenSSH's configuration about a host: see `config.py`."""
