"""The S3 door: Amazon's REST protocol of object storage in front of `Objects`, as its clients expect it to the letter."""
