"""How good a task is: accuracy, scores without labels, who is taken for whom."""
