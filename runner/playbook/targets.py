"""Which servers a playbook names: each once, however many steps and names lead there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from runner.plan import ConnectorType, Endpoint, Step, Target
from runner.problems import Location

# Stands in for what a connection that no step uses does not say: what to do.
ANY_MODE = {"mode_name": "copy_file_to_engine", "source_file_name": "x", "destination_file_name": "x"}


def target_of(step: Step, place: Location) -> Target:
    """The server that a step goes to. `place` is where the playbook says so."""
    return Target(
        (step.host_label,),
        step.connector_type,
        step.endpoint,
        step.connect_timeout_seconds,
        step.stall_timeout_seconds,
        place,
    )


def gather_targets(found: Iterable[Target]) -> tuple[Target, ...]:
    """The targets in the order of the file. Those with equal endpoints that speak the same share an entry."""
    merged: dict[tuple[Endpoint, ConnectorType], Target] = {}
    for target in sorted(found, key=lambda target: target.location):
        key = (target.endpoint, target.connector_type)
        known = merged.get(key, target)
        merged[key] = replace(known, names=tuple(dict.fromkeys(known.names + target.names)))
    return tuple(merged.values())
