"""What the commands have in common that talk to a server."""
