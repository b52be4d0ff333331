"""PostgreSQL: the embedded server, the schema, and the statements, one module a noun."""
