package main

import (
	"testing"

	"bgbot/internal/anthropictest"
)

// TestCage is about two sessions of one user: each finds the ssh of the other, and may not use it, because what the other's
// key does would count as the other's. Its name is short, since it is a part of a socket's path.
func TestCage(t *testing.T) {
	t.Parallel()
	const look = `for s in $(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' '\n' | grep -A1 -x -e --session-id | grep -v -x -e -- -e --session-id | sort -u); do
ssh=../../$s/ssh
test -S $ssh/agent.sock || continue
who=other; if test $ssh -ef ../ssh; then who=own; fi
SSH_AUTH_SOCK=$ssh/agent.sock ssh-add -l >/dev/null 2>&1 && echo "$who agent"
cat $ssh/config >/dev/null 2>&1 && echo "$who config"
echo "$who seen"
done | sort`
	w := newWorld(t, t.TempDir(), "disk-full", newRoom())
	must(t, w.script.add("hold", anthropictest.Answer{Bash: []string{"sleep 600"}}))
	must(t, w.script.add("steal", anthropictest.Answer{Bash: []string{look}}))
	must(t, w.script.add("steal", anthropictest.Answer{Text: "It saw: TOOL."}))
	w.open()
	op, co := w.people["operator"], w.people["colleague"]
	must(t, op.says("hold"))
	_, err := op.sees("Working .*sleep 600", patience)
	must(t, err)
	must(t, co.says("/new steal"))
	_, err = co.sees(`It saw: other seen\s+own agent\s+own config\s+own seen\.`, patience)
	must(t, err)
}
