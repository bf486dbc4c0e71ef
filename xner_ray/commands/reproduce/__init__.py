"""The command `reproduce`: a paper's experiment on data as published, with its figures beside ours."""
