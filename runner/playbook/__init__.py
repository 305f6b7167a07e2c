"""From a playbook's text to a `Play`: parse, validate, fill in templates, build. Nothing here touches the network."""
