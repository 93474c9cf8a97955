"""The results of verification, as a table, JUnit, HTML, charts, a support bundle and a history."""
