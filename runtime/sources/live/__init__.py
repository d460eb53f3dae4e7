"""Sources that may have no end: cameras, streams, folders that are being filled."""
