"""Translators, health checks of their output, and the stages around them."""
