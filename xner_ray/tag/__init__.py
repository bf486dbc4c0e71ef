"""Taggers of either side, and the stages `tag` and `target_tag`."""
