"""From a folder of recordings to clips and a manifest."""
