"""Which modules a dependency loads by itself, whatever we do: older versions load more."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

_PROGRAM = """
import json, sys
import cryptography.hazmat.backends.openssl.backend
print(json.dumps(sorted(sys.modules)))
"""


@cache
def loaded_by_cryptography() -> frozenset[str]:
    """What its ciphers and keys bring along. In version 42 that is `email`, and with it `socket`."""
    ended = subprocess.run([sys.executable, "-c", _PROGRAM], check=True, capture_output=True, text=True)
    return frozenset(json.loads(ended.stdout))
