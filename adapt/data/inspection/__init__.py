"""Read and describe every image of a domain: copies, sizes, damage, a report."""
