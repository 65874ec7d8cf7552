"""What goes into the vehicle: taxonomies, model metadata, loading and running a segmenter. No torch."""
