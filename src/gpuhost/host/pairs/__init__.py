"""Updates as proved pairs: a kernel and a driver, booted once, judged, and kept or undone by the host itself."""
