"""From folders of YAML to elements that are resolved for whom you ask."""
