"""What servers do that are unlike OpenSSH's, a class each: the rows of the table that the conformance is for."""
