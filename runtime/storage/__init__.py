"""Files that are whole or absent, sealed, and checked before use."""
