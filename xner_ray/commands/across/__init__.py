"""Commands that look across the languages of finished runs."""
