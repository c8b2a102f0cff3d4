"""Classes that an application enrols from a few photographs: what is kept of them, and how it is compared."""
