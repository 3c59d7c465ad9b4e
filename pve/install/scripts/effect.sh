# Says what sshd would hold for a login of $1 from $2. $3 is its configuration or -.
if [ "$3" = - ]; then
	sshd -T -C "user=$1,host=$2,addr=$2,laddr=$2,lport=22"
else
	sshd -T -f "$3" -C "user=$1,host=$2,addr=$2,laddr=$2,lport=22"
fi
