"""Tests of the database port and of both of its sides."""
