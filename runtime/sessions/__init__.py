"""One device at work: which task is current, which frames go together."""
