"""How long a run takes: rates of models on devices, measured or simulated, and the estimate that `plan` shows."""
