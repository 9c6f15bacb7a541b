"""The database: tables, migrations, locks."""
