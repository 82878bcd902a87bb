"""What runs inside the model server: the repository that verifies, the runtime that loads, and the launcher."""
