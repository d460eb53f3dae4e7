"""One device at work: tasks in memory, which one is current, which frames go together."""
