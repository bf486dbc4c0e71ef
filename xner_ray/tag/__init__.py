"""Taggers of both sides, and the stages `tag` and `target_tag`."""
