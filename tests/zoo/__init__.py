"""The zoo: one set of checks for every SFTP server that can be had. `make test-zoo` runs it.

    backends       which servers there are, and how each is started (by tests/servers)
    capabilities   READ FIRST: what a server can have, and how that is tried by single requests (raw_client)
    lacks          the table: what each product lacks of it; page makes docs/servers.md of it
    known_faults   what fails because of the runner
    scene          one check: a directory there, one here, and what must be so after a play
    test_lacks     the table is true                     test_files, test_trees, test_operations   the checks
    test_claims    what the pages say of every server
    test_openssh   OpenSSH as administrators set it up, with denials: which requests a play cannot do without

One server alone: `.venv/bin/python -m pytest -m zoo tests/zoo -k proftpd`.
"""
