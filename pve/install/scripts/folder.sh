# Makes the folder $1 with mode $2 and owner $3 or -.
mkdir -p "$1"
chmod "$2" "$1"
[ "$3" = - ] || chown "$3" "$1"
if command -v restorecon >/dev/null 2>&1; then restorecon "$1" || :; fi
