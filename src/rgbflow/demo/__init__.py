"""The whole road in minutes, on people that the demo paints itself."""
