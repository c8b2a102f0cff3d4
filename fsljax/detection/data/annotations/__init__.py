"""Annotations as they stand in files: VOC's XML and folders, COCO's JSON."""
