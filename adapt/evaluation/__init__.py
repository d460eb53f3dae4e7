"""Evaluate tasks: accuracy, scores without labels, confusion of classes."""
