"""Translators, checks of their output, and the stage `translate`."""
