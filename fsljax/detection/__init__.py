"""Object detection: boxes, anchors, matching, suppression, RoI features; of static shape, and compiled."""
