"""What earlier steps of `--check` would have done: a file system over the real one, on each host and here."""
