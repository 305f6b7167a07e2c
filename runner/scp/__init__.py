"""The SCP protocol, for servers without an SFTP subsystem, on a command's channel."""
