"""Commands on the server, for accounts that have a shell: their output as a stream, and the few utilities we need."""
