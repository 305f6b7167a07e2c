"""The `runner` command: one module a command. The only place that turns errors into exit codes."""
