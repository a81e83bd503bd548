"""The stores of AWSRuntime: histories on S3, and queues, timers and workers around them."""
