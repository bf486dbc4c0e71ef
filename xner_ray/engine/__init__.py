"""The run: which stages, on what, guarded how; Ray Data, and the second matching."""
