"""The constraints that ship with the room, one YAML file a name."""
