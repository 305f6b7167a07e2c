"""Ansible's `copy`, as it comes: one task, which takes a folder as well as a file."""

from __future__ import annotations

import json
import shlex
import sys

from tests.bench.measurement import Command
from tests.bench.peers import ssh_options
from tests.bench.setting import Job, Setting
from tests.servers.endpoint import LOOPBACK


def ansible_command(setting: Setting, job: Job) -> Command:
    """`ansible-playbook` with a playbook of one task, facts not gathered.

    Connections are kept open within a run, as by default, but not for the next run: each has a folder for them.
    """
    slash = "/" if job.is_folder else ""
    task = {"ansible.builtin.copy": {"src": f"{job.source}{slash}", "dest": f"{job.destination}{slash}"}}
    playbook_path = job.scratch / "copy.yaml"
    playbook_path.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]), encoding="utf-8")
    variables = {
        "ansible_host": LOOPBACK,
        "ansible_port": job.port,
        "ansible_user": job.address.username,
        "ansible_ssh_private_key_file": str(job.address.key_path),
        "ansible_ssh_common_args": shlex.join(ssh_options(setting, job)),
        "ansible_python_interpreter": sys.executable,
    }
    inventory_path = job.scratch / "inventory.json"
    inventory_path.write_text(json.dumps({"all": {"hosts": {"server": variables}}}), encoding="utf-8")
    config_path = job.scratch / "ansible.cfg"
    config_path.touch()
    return Command(
        (setting.ansible_playbook or "ansible-playbook", "-i", str(inventory_path), str(playbook_path)),
        {
            "ANSIBLE_CONFIG": str(config_path),
            "ANSIBLE_HOME": str(setting.home / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(job.scratch / "cp"),
            "ANSIBLE_HOST_KEY_CHECKING": "True",
        },
    )
