"""Watch cameras for a long time: predict, choose tasks, notice drift, tell others."""
