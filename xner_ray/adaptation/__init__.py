"""The aligner's encoder goes on learning on a user's parallel text: recipe, pairs, objective, loop."""
