# Says who and where we are. $1: the folder of sbin/qm, a comma list of programs follows.
echo uid=$(id -u)
echo kernel=$(uname -s)
echo arch=$(uname -m)
echo client=${SSH_CONNECTION:-}
echo openssh=$( { sshd -V || ssh -V; } 2>&1 | grep -o "OpenSSH_[0-9.]*" | head -n 1)
for program in "$@"; do
	command -v "$program" >/dev/null 2>&1 || echo missing="$program"
done
