"""The aligner's encoder on a user's own pairs: recipe, pairs, training loop."""
