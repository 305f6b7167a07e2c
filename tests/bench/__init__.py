"""The benchmark: ours against scp, sftp, rsync, rclone, lftp and Ansible. `make bench` runs it.

    __main__     the command line                  cases        what is copied
    rounds       READ FIRST: A B C, A B C, …       targets      what must be reached
    setting      one folder in memory              tools        who copies: product, peers, ansible, baseline
    servers      an sshd, and others for some cases
    payload      what is copied, and the check     measurement  time, CPU and memory of one command (by meter)
    results      runs, medians, ratios             page         docs/performance.md (by table) and .svg (by chart)

To add a case, add a line to `cases.CASES`. A case that the product cannot do is listed, with the reason, and not run:
what it can do is read from the schema that the installed command prints.
"""
