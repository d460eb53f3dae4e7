"""When to trust a prediction: which domain a frame is of, what is unknown, how sure a task is."""
