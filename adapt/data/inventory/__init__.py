"""What lies in a user's folders: images to take, and files that are left out for a named reason."""
