"""Every step of the program in minutes, on people that the demo draws itself."""
