"""What expressions can say beyond Jinja2's own: filters and tests, named and meant as in Ansible. See `registry.py`."""
