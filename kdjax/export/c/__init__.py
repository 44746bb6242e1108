"""C for microcontrollers: a network as few operators, in whole numbers of 8 bits, written as one header."""
