"""The commands of those we are measured against.

All check the host key against one known_hosts file, log in with one key, and read no configuration of anybody. Where a
cipher can be chosen it is AES-128-GCM, the fastest on most machines: `scp` takes part a second time as it comes.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.bench.measurement import Command
from tests.bench.setting import Job, Setting
from tests.servers.endpoint import LOOPBACK

FAST_CIPHER = "aes128-gcm@openssh.com"


def scp_command(setting: Setting, job: Job) -> Command:
    """`scp` with the cipher that it chooses."""
    return _scp(setting, job)


def scp_gcm_command(setting: Setting, job: Job) -> Command:
    """`scp` with the fast cipher."""
    return _scp(setting, job, "-c", FAST_CIPHER)


def sftp_command(setting: Setting, job: Job) -> Command:
    """`sftp -b`, with one line in its batch file."""
    verb = ("put" if job.is_up else "get") + (" -r" if job.is_folder else "")
    batch_path = job.scratch / "batch"
    batch_path.write_text(f"{verb} {job.source} {job.destination}\n", encoding="utf-8")
    options = [*ssh_options(setting, job), "-c", FAST_CIPHER, "-q", "-b", str(batch_path)]
    return Command(("sftp", *options, f"{job.address.username}@{LOOPBACK}"))


def rsync_command(setting: Setting, job: Job) -> Command:
    """`rsync -a`, over ssh."""
    return _rsync(setting, job)


def rsync_fsync_command(setting: Setting, job: Job) -> Command:
    """The same, with every file synced to disk."""
    return _rsync(setting, job, "--fsync")


def _rsync(setting: Setting, job: Job, *options: str) -> Command:
    slash = "/" if job.is_folder else ""
    source, destination = f"{job.source}{slash}", f"{job.destination}{slash}"
    return Command(("rsync", "-a", *options, "-e", _ssh(setting, job), *_ends(setting, job, source, destination)))


def rclone_command(setting: Setting, job: Job) -> Command:
    """`rclone copy` or `copyto`; it has an SSH of its own and chooses AES-GCM by itself."""
    options = {
        "host": LOOPBACK,
        "port": job.port,
        "user": job.address.username,
        "key-file": job.address.key_path,
        "known-hosts-file": setting.known_hosts_path,
    }
    ends = (str(job.source), f":sftp:{job.destination}") if job.is_up else (f":sftp:{job.source}", str(job.destination))
    verb = "copy" if job.is_folder else "copyto"
    return Command(
        ("rclone", verb, *ends, "--config", "", *(f"--sftp-{name}={value}" for name, value in options.items()))
    )


def lftp_command(setting: Setting, job: Job) -> Command:
    """`lftp` over SFTP, with `ssh` as its connect program."""
    if job.is_folder:
        copy = f"mirror {'-R ' if job.is_up else ''}{job.source} {job.destination}"
    else:
        copy = f"{'put' if job.is_up else 'get'} {job.source} -o {job.destination}"
    script = (
        "set cmd:fail-exit true; set net:max-retries 1; set net:timeout 60; "
        f'set sftp:connect-program "{_ssh(setting, job)} -a -x"; '
        f"open -u {job.address.username}, sftp://{LOOPBACK}:{job.port}; {copy}"
    )
    return Command(("lftp", "--norc", "-c", script), {"LFTP_HOME": str(setting.home)})


def ssh_options(setting: Setting, job: Job) -> list[str]:
    """What `ssh`, `scp` and `sftp` all need."""
    settings = {
        "Port": job.port,
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": setting.known_hosts_path,
        "GlobalKnownHostsFile": Path("/dev/null"),
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    return ["-F", "none", "-i", str(job.address.key_path), *options]


def _scp(setting: Setting, job: Job, *options: str) -> Command:
    recursive = ("-r",) if job.is_folder else ()
    words = [*ssh_options(setting, job), *options, "-q", *recursive]
    return Command(("scp", *words, *_ends(setting, job, str(job.source), str(job.destination))))


def _ssh(setting: Setting, job: Job) -> str:
    return shlex.join(["ssh", *ssh_options(setting, job), "-c", FAST_CIPHER])


def _ends(setting: Setting, job: Job, source: str, destination: str) -> tuple[str, str]:
    """Source and destination, the one on the server with the server's name."""
    server = f"{job.address.username}@{LOOPBACK}:"
    return (source, server + destination) if job.is_up else (server + source, destination)
