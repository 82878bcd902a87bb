"""Masking policies that ship with the room, one YAML file each; the file's name is the policy's name."""
