"""What files of ours must hold to be read."""
