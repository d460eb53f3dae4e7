"""Sessions: predict with the tasks of a bundle on one device."""
