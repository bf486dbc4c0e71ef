"""Entities scored against gold: counts, intervals, tests, comparisons."""
