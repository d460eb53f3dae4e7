"""What a bundle's graphs may hold, checked before any library opens them."""
