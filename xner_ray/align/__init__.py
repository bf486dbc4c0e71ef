"""Words to links: encoder, aligner, and the stage `align`."""
