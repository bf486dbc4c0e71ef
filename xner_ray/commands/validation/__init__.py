"""The command `cross-validate`: students trained without each fold of their documents, and compared."""
