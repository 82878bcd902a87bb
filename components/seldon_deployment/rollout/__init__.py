"""Rolling a version out: beside the stable one, by weights, by evidence, and back."""
