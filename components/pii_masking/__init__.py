"""Find and mask personal data: one declared operator per column, detection for free text, a check of the result."""
