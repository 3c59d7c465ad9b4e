# Makes the account $1, or mends it if $3 says so. $2 is its comment. The password is * and not !, which sshd without PAM
# takes for a locked account that not even a key opens.
if [ "$3" = mend ]; then
	usermod --shell /bin/bash --password "*" "$1"
	exit
fi
[ -x /bin/bash ] || exit 76
useradd --system --create-home --home-dir "/home/$1" --shell /bin/bash --comment "$2" --password "*" "$1"
