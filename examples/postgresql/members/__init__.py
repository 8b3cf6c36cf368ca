"""The members of a club: a program on PostgreSQL, through SQLAlchemy and asyncpg."""
