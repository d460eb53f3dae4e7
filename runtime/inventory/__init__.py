"""List the images in a user's folders and lists, and why other files are left out."""
