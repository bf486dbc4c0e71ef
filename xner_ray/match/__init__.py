"""Links to spans: candidates, scores, the optimisation problem, and the stage `match`."""
