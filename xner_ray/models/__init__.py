"""Models as several steps use them: files, networks, training, windows over long sentences, devices."""
