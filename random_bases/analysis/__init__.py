"""What can be measured of a task, a network or a basis, given functions that evaluate them."""
