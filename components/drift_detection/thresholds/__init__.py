"""The thresholds that ship with the room, one YAML file a name."""
