"""An SSH server on loopback with throw-away keys, for `runner demo`. Needs the extra `demo` (asyncssh)."""
