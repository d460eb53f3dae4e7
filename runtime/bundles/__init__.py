"""What a device receives: read, written, changed while sessions run."""
