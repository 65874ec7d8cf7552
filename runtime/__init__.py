"""What goes into the vehicle: taxonomies, model metadata, loading and running a segmenter. No torch."""

from roadworthy.runtime.segmenter import Segmentation, Segmenter, load

__all__ = ["Segmentation", "Segmenter", "load"]
