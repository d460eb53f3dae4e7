"""Read, write and change bundles."""
