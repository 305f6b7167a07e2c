"""What `runner doctor --json` writes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from runner._version import VERSION
from runner.errors import Interrupted, RunnerError
from runner.findings import CommandFacts, Findings, Login, ProbeFacts, SftpFacts, Visit
from runner.problems import Location
from runner.report.findings import status_of
from runner.report.json_report import describe_error

SCHEMA_VERSION = "1"


def describe_visit(visit: Visit, redact: Callable[[str], str] = str) -> dict[str, Any]:
    """The report on all servers."""
    return {
        **_describe_run(visit.survey.file, visit.survey.name, visit.status, visit.exit_code, visit.started_at),
        "duration_seconds": round(visit.duration_seconds, 3),
        "connections": [_describe_findings(one, redact) for one in visit.found],
        "left_out": [
            {"name": name, "location": _describe_location(one.location), "message": one.message, "hint": one.hint}
            for name, one in visit.survey.left_out
        ],
    }


def describe_invalid(file: str, error: RunnerError | Interrupted, at: datetime) -> dict[str, Any]:
    """The report on a playbook none of whose servers was contacted."""
    status = "interrupted" if isinstance(error, Interrupted) else "failed"
    run = _describe_run(file, file, status, error.exit_code, at)
    return {**run, "duration_seconds": 0.0, "connections": [], "left_out": [], "error": describe_error(error)}


def _describe_run(file: str, name: str, status: str, exit_code: int, at: datetime) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "runner_version": VERSION,
        "playbook": file,
        "name": name,
        "status": status,
        "exit_code": exit_code,
        "started_at": at.isoformat(timespec="milliseconds"),
    }


def _describe_findings(found: Findings, redact: Callable[[str], str]) -> dict[str, Any]:
    target, failure = found.target, found.failure
    return {
        "names": list(target.names),
        "host": target.endpoint.host,
        "port": target.endpoint.port,
        "connector_type": target.connector_type,
        "location": _describe_location(target.location),
        "status": status_of(failure),
        "proxy": str(target.endpoint.first_proxy) if target.endpoint.first_proxy else None,
        "jump_hosts": [
            {"name": hop.name, "fingerprint": hop.host_key.fingerprint, "trusted_by": hop.trusted_by}
            for hop in found.hops
        ],
        "login": _describe_login(target.endpoint.authentication.username, found.login) if found.login else None,
        "sftp": _describe_sftp(found.sftp, redact) if found.sftp else None,
        "probe": _describe_probe(found.probe) if found.probe else None,
        "commands": _describe_commands(found.commands) if found.commands else None,
        "notes": [{"kind": note.kind, "message": note.message, "hint": note.hint} for note in found.notes],
        "warnings": list(found.warnings),
        "error": {"type": failure.type, "message": failure.message, "hint": failure.hint} if failure else None,
    }


def _describe_login(username: str, login: Login) -> dict[str, Any]:
    agreed = login.algorithms
    return {
        "address": login.address,
        "duration_seconds": round(login.seconds, 3),
        "server_version": login.server_version,
        "host_key": {"key": str(login.host_key), "fingerprint": login.host_key.fingerprint},
        "certificate_authority": login.authority.fingerprint if login.authority else None,
        "trusted_by": login.trusted_by,
        "username": username,
        "method": login.method,
        "algorithms": {
            "key_exchange": agreed.key_exchange,
            "strict_key_exchange": agreed.is_strict,
            "host_key": agreed.host_key,
            # To the server, and from it; null for a MAC where the cipher signs the packets itself.
            "ciphers": list(agreed.ciphers),
            "macs": [mac or None for mac in agreed.macs],
            "compressions": list(agreed.compressions),
        },
    }


def _describe_probe(probe: ProbeFacts) -> dict[str, Any]:
    return {
        "directory": probe.folder,
        "trials": [{"name": one.name, "outcome": one.outcome, "ok": one.is_well} for one in probe.trials],
        "lines": list(probe.advice),
    }


def _describe_sftp(sftp: SftpFacts, redact: Callable[[str], str]) -> dict[str, Any]:
    limits, space = sftp.limits, sftp.space
    return {
        "version": sftp.version,
        "round_trip_seconds": round(sftp.round_trip_seconds, 6),
        # The names are the server's, so they are data, unlike all other keys.
        "extensions": {redact(name): version.decode("utf-8", "replace") for name, version in sftp.extensions},
        "limits": {
            "packet_bytes": limits.packet_bytes,
            "read_bytes": limits.read_bytes,
            "write_bytes": limits.write_bytes,
            "open_files": limits.open_files,
        }
        if limits
        else None,
        "used_read_bytes": sftp.read_bytes,
        "used_write_bytes": sftp.write_bytes,
        "login_directory": sftp.login_folder,
        "traits": [{"about": about, "value": value, "reason": reason} for about, value, reason in sftp.traits],
        "space": {
            "total_bytes": space.total_bytes,
            "free_bytes": space.free_bytes,
            "total_files": space.total_files,
            "free_files": space.free_files,
        }
        if space
        else None,
    }


def _describe_commands(commands: CommandFacts) -> dict[str, Any]:
    return {
        "answered_by": commands.answered_by,
        "checksum_programs": list(commands.checksum_programs),
        "login_directory": commands.login_folder,
        "scp": commands.has_scp,
    }


def _describe_location(location: Location) -> dict[str, Any]:
    return {"file": location.file, "line": location.line, "column": location.column}
