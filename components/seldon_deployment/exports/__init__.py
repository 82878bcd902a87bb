"""A signed and admitted model in the layout of another server, with our verification in front of its loading."""
