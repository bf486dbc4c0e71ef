"""What several stages need of a model: its files, its network, windows over long sentences, its device."""
