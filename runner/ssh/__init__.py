"""Verified, authenticated SSH connections. The only users of fabric and paramiko are here."""

import runner.ssh.lean_imports  # noqa: F401  (before any module of this package imports fabric or paramiko)
