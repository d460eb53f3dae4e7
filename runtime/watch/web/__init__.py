"""A page that shows the cameras live, in any browser."""
