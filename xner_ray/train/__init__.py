"""Training a student, a token classifier, on projected and gold sentences. Nothing here knows Ray."""
