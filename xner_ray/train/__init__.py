"""The student: a token classifier trained on projected and gold sentences."""
