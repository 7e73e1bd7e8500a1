"""Files to S3 and back."""
