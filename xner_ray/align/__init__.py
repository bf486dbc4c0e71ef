"""Word alignment: encoder, aligner, and the stage `align`."""
