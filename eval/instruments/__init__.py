"""What images are measured with: judges, CLIP, feature networks, detectors."""
