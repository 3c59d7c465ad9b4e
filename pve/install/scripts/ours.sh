# Says which build the program $1 is.
"$1" --version
