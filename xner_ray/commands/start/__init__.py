"""Commands before there is a run: what files hold, a recipe for them, what this machine can do."""
