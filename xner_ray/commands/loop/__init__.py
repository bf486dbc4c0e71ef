"""The command `loop`: projections teach students, whose labels of other documents help to project again."""
