"""The floor: a file read, sent over TCP on loopback, received and written; no SSH, no check, no temporary name.

Run as a command, `python -I -S pipe.py SOURCE DESTINATION`: this process sends, a child of it receives.
"""

from __future__ import annotations

import os
import socket
import sys

_BUFFER_BYTES = 256 * 1024


def send(source: str, connection: socket.socket) -> None:
    """Send a file."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with open(source, "rb", buffering=0) as file, connection:
        while count := file.readinto(buffer):
            connection.sendall(buffer[:count])


def receive(connection: socket.socket, destination: str) -> None:
    """Write what comes into a new file."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    with open(destination, "xb", buffering=0) as file, connection:
        while count := connection.recv_into(buffer):
            file.write(buffer[:count])


def copy(source: str, destination: str) -> int:
    """Copy a file through a connection between two processes; the receiver's exit code."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            receive(listener.accept()[0], destination)
            os._exit(0)
        send(source, socket.create_connection(listener.getsockname()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(copy(*sys.argv[1:]))
