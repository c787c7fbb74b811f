"""What tests share. Nothing imports a conftest or a test module; all that two of them need is here."""
