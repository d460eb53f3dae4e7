"""Base weights, patches over them, and the tasks in memory."""
