"""Reports of a run: tables, progress, dataset card, page."""
