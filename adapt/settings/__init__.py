"""Define, resolve, check and store the settings of training."""
