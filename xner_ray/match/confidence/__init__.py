"""The probability that a projected entity is right."""
