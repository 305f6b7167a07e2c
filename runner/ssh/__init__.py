"""Verified, authenticated SSH connections. The only users of fabric and paramiko are here."""
