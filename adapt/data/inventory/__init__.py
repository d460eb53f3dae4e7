"""List the images in a user's folders, and why other files are left out."""
