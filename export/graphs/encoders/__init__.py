"""Image towers in deployable form, one file per family."""
