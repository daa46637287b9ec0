"""What KongFlow is about, without any input or output."""
