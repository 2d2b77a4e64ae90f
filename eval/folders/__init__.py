"""Any folders of images, measured."""
