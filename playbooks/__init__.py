"""Example playbooks, installed as `runner.playbooks`. `runner demo` plays demo.yaml."""
