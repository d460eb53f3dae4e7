"""Parts of single methods: teachers, networks, losses, cached features."""
