"""Where observations go while sources are watched."""
