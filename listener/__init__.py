"""Everything that comes in: associations, admission, durable receipt, knowing when a study is whole."""
