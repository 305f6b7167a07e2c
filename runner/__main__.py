"""`python -m runner` is the `runner` command."""

import contextlib
import os
import sys

with contextlib.suppress(FileNotFoundError):
    # Python looks for modules in the current folder first: a fabric.py that lies beside a playbook would be run.
    if sys.path[:1] in ([""], [os.getcwd()]):
        del sys.path[0]

from runner.cli.main import main

if __name__ == "__main__":
    main()
