"""Small feature networks trained on own images."""
