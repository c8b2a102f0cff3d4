"""Work divided over devices and processes."""
