"""Entities against gold: counts, intervals, tests, comparisons."""
