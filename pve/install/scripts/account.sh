# Says what the account $1 is.
if ! entry=$(getent passwd "$1"); then
	echo uid=
	exit 0
fi
set -f
IFS=:
set -- $entry
echo uid="$3"
echo about="$5"
echo home="$6"
echo shell="${7:-}"
word=$(getent shadow "$1" | cut -d : -f 2)
case $word in
!*) echo password=locked ;;
"" | "*"*) echo password=none ;;
*) echo password=set ;;
esac
if sshd -T 2>/dev/null | grep -qi "^usepam no"; then echo pam=no; fi
