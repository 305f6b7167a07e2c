"""Stand-ins for `openssl` on a server's PATH: one that is slow, one that hangs, one that takes its session with it."""

from __future__ import annotations

import sys
from pathlib import Path

_PROGRAM = """#!{python} -IS
import hashlib, os, signal, sys, time

def hang(): time.sleep(3600)

def end_session():
    # The program's parents up to the session's sshd.
    pid = os.getppid()
    while "sshd" not in (name := open(f"/proc/{{pid}}/comm").read()):
        pid = int(open(f"/proc/{{pid}}/stat").read().rpartition(")")[2].split()[1])
    os.kill(pid, signal.SIGKILL)
    time.sleep(3600)

def hash_all(stream, name):
    digest, total = hashlib.sha256(), 0
    while block := stream.read(131072):
        total += len(block)
        digest.update(block)
        {each}
    {finally_}
    print(f"{{digest.hexdigest()}} *{{name}}")

names = [word for word in sys.argv[1:] if word not in ("dgst", "-sha256", "-r")]
for name in names:
    hash_all(open(name, "rb"), name)
if not names:
    hash_all(sys.stdin.buffer, "stdin")
"""


def put_hash_program(folder: Path, *, each: str = "pass", finally_: str = "pass") -> str:
    """A folder whose `openssl` hashes right, and does `each` for 128 KiB and `finally_` before it answers.

    Returns the line of sshd's configuration that puts it first on the PATH.
    """
    folder.mkdir()
    program = folder / "openssl"
    program.write_text(_PROGRAM.format(python=sys.executable, each=each, finally_=finally_), encoding="utf-8")
    program.chmod(0o755)
    return f"SetEnv PATH={folder}:/usr/local/bin:/usr/bin:/bin"
