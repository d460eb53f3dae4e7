"""Draw the pictures of the demo world; imports neither torch nor the data sets."""
