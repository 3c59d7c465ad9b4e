# Asks the gate for its status as sshd would. The command line of the key follows.
SSH_ORIGINAL_COMMAND=status "$@"
