# Says what $1 is, then, if $2 is content, a blank line and what is in it.
path=$1
if [ -L "$path" ]; then
	echo link=$(readlink "$path")
	to=$(readlink -f "$path") || to=
	if [ -z "$to" ] || [ ! -d "${to%/*}" ]; then
		echo kind=dangling
		exit 0
	fi
	path=$to
fi
echo at="$path"
if [ -f "$path" ]; then
	kind=file
elif [ -d "$path" ]; then
	kind=folder
elif [ -e "$path" ]; then
	kind=other
else
	echo kind=absent
	exit 0
fi
echo kind=$kind
echo mode=$(stat -c %a "$path")
echo owner=$(stat -c %U:%G "$path")
[ $kind = file ] || exit 0
sum=$(sha256sum "$path")
echo sum=${sum%% *}
if [ "$2" = content ]; then
	echo
	cat "$path"
fi
