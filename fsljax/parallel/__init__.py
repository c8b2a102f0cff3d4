"""A run on several devices and by several processes."""
