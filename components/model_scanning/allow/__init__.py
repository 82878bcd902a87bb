"""Allow-lists that ship with the room."""
