"""Pictures beside sentences: loaded from references that nobody trusts, and what they say about entities' labels."""
