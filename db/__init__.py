"""All durable state: rows in SQLite or Postgres, and the bytes of instances and results."""
