"""How each sort of AWS object is found, created, updated and deleted; a file a service."""
