"""An order service whose release touches a database, a bucket, a schema registry and Kafka."""
