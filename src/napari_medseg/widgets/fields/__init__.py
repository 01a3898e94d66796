"""What a user chooses with: layers, models, networks, folders, cases."""
