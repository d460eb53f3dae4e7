"""Every image of a domain read and described: copies, sizes, damage, a report."""
