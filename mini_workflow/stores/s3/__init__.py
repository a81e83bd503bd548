"""Store histories in a bucket on S3."""
