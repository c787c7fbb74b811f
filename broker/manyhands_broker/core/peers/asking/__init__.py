"""What people ask and order, and how far each may."""
