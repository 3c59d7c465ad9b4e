# Tries what the agent will do as $1.
su -s /bin/sh -c "sudo -n true" "$1"
