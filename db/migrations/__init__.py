"""Schema revisions, applied from code by `db.engine.Database.migrate`."""
