"""What is written in Ansible, understood well enough to be answered. Loaded only when something of it is met."""
