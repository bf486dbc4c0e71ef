"""What a run says of itself: tables, progress, dataset card, page."""
