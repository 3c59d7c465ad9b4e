# Puts what comes on stdin in the place of $1, a file that sshd includes; with nothing on stdin it is taken away. $2 is
# its sha256, $3 the configuration of sshd or -. If sshd does not like it, everything is as before.
path=$1 sum=$2 conf=$3
new= old=
clean() { rm -f "$new" "$old"; }
trap clean EXIT
trap "exit 1" HUP INT TERM
try() {
	if [ "$conf" = - ]; then sshd -t; else sshd -t -f "$conf"; fi
}
back() {
	if [ -s "$old" ]; then mv -f "$old" "$path"; else rm -f "$path"; fi
}
reload() {
	if command -v systemctl >/dev/null 2>&1; then
		systemctl reload ssh || systemctl reload sshd
	else
		kill -HUP "$(cat /run/sshd.pid)"
	fi
}
try || exit 73
new=$(mktemp "${path%/*}/.bgbot.XXXXXX")
old=$(mktemp "${path%/*}/.bgbot.XXXXXX")
cat >"$new"
set -- $(sha256sum "$new")
[ "$1" = "$sum" ] || exit 71
chmod 644 "$new"
if [ -e "$path" ]; then
	cat "$path" >"$old"
	chmod 644 "$old"
fi
if [ -s "$new" ]; then mv -f "$new" "$path"; else rm -f "$path"; fi
if ! try; then
	back
	exit 74
fi
if ! reload; then
	back
	reload || :
	exit 75
fi
