"""What the command line and Python call: a command a file."""
