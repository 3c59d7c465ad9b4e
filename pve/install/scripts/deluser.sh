# Removes the account $1 with its home.
userdel --remove "$1" 2>&1 || exit 77
