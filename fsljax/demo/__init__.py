"""A demo in the browser: enrol images or boxes, name new images, find characters and objects.

`python -m fsljax.demo` starts it; it needs the extra `demo`. Nothing leaves the machine.
"""
