"""Move files over SFTP and SCP as a checked-in YAML playbook says. Read `play.py` first."""

from runner._version import VERSION

__version__ = VERSION

__all__ = ["__version__"]
