package lab

import (
	"regexp"
	"strings"
)

// What prefixes each command for the guest: bounded on this side, since a task that waits for the disk cannot be ended on
// the other. A probe may well hang; a look or a repair may take its time on an emulated CPU.
const (
	probe   = "timeout 10 ssh devvm "
	onGuest = "timeout 60 ssh devvm "
)

// ioStall looks, proves that the disk path is dead, and cycles.
func ioStall(t *talk) {
	host, ran := t.bash("I look at the host's view first, then at the guest.", "ssh pve status")
	if !ran {
		return
	}
	inside, ran := t.bash("", probe+`'uptime; cat /proc/pressure/io; ps aux | grep " D " | head -8; sudo dmesg -T | tail -4'`)
	if !ran {
		return
	}
	if code(inside) == "255" {
		if inside, ran = t.bash("SSH is refused. I try once more before I judge.", "sleep 3; "+probe+"uptime"); !ran {
			return
		}
	}
	write, ran := t.bash("Reads from memory are one thing; does a write come back?", probe+"'sync && echo write-ok'")
	if !ran {
		return
	}
	if strings.Contains(write, "write-ok") {
		t.say("I cannot find a hang now: a write to the disk of devvm came back.\n\n```\n%s\n```\nTell me when it freezes again.", firstLines(inside, 2))
		return
	}
	if refused(write) {
		t.say("I was not allowed to test a write, so I have no proof. So far:\n\n```\n%s\n```", firstLines(inside, 2))
		return
	}
	evidence, ran := t.bash("`sync` did not come back, so the disk path is dead although the guest still answers. "+
		"I save the evidence before I change anything.", "ssh pve forensics")
	if !ran {
		return
	}
	cycled, ran := t.bash(whyCycle(host, evidence), "ssh pve cycle")
	if !ran {
		return
	}
	afterChange(t, cycled, change{"cycle", "cycled", "nothing in the guest can reach its disk", lessons(inside, evidence)})
}

// whyCycle argues from what was seen.
func whyCycle(host, evidence string) string {
	seen := "The guest's writes hang"
	if strings.Contains(host+evidence, "running") {
		seen += " while the host says that QEMU runs"
	}
	return seen + ": the fault is in the QEMU process. A reset would reboot the guest inside that same process and lose the login too; " +
		"a cycle starts a fresh QEMU. What is only in the guest's memory is lost."
}

// lessons are the last word's list: what the turn has shown, and only that.
func lessons(inside, evidence string) string {
	list := "- Cause: block I/O stood still inside the old QEMU process"
	if code(inside) == "0" {
		list += ", while logins and memory still worked"
	}
	list += ".\n- Done: one cycle. No file was touched.\n- By day: look at the storage and at the QEMU version"
	if code(evidence) == "0" && !refused(evidence) {
		list += "; the forensics from before the cycle are kept"
	}
	return list + "."
}

// change is what the agent has asked the host for.
type change struct {
	verb, done string
	because    string // why nothing softer helps
	lessons    string // the last word's list
}

// afterChange proves the recovery, or says what is in the way.
func afterChange(t *talk, said string, c change) {
	switch {
	case unanswered(said):
		t.say("**devvm is still frozen**: nobody confirmed the %s in time, so nothing was changed.\n\n"+
			"I would still %[1]s it: %[2]s. Type `vm %[1]s`, or ask me again.", c.verb, c.because)
		return
	case refused(said):
		t.say("**devvm is still frozen**: the %s was not approved, so nothing was changed.\n\n```\n%s\n```\n"+
			"I see no softer way, since %s. Type `vm %[1]s` when you are ready.", c.verb, firstLines(said, 3), c.because)
		return
	case code(said) != "0" && code(said) != "6":
		t.say("**devvm is still down**: the host did not %s it (exit code %s).\n\n```\n%s\n```", c.verb, code(said), firstLines(said, 6))
		return
	}
	up, ran := t.bash("The host reports the "+c.verb+". Now SSH.",
		"for i in 1 2 3 4 5 6 7 8 9 10; do timeout 5 ssh devvm true && echo up after try $i && break; sleep 2; done")
	if !ran {
		return
	}
	if !strings.Contains(up, "up after try") {
		t.say("**Not back yet**: the host %s devvm, but SSH did not answer in ten tries. Look with `vm status`, or ask me again.\n\n```\n%s\n```", c.done, firstLines(up, 3))
		return
	}
	final, ran := t.bash("", onGuest+"'uptime; sync && echo write-ok; systemctl --failed --no-pager; systemctl is-active t3-serve'")
	if !ran {
		return
	}
	if !strings.Contains(final, "write-ok") {
		t.say("**Not repaired**: SSH answers again, but a write still does not come back.\n\n```\n%s\n```", firstLines(final, 5))
		return
	}
	t.over = true
	t.say("**devvm is back.** SSH answers, a write to the disk returned, %s.\n\n%s", units(final), c.lessons)
}

// unfinished ends the turn if a command in the guest took too long.
func unfinished(t *talk, look string) bool {
	if code(look) != "124" {
		return false
	}
	t.say("The command in devvm did not finish in 60 s, so I do not know enough to go on. What came before:\n\n```\n%s\n```\nAsk me again, or try `vm status`.",
		firstLines(strings.Replace(look, "Exit code 124", "", 1), 4))
	return true
}

// units puts `systemctl --failed` into words.
func units(out string) string {
	switch {
	case strings.Contains(out, "\n0 loaded units") || strings.HasPrefix(out, "0 loaded units"):
		return "no unit has failed"
	case strings.Contains(out, "loaded units"):
		return "but some units have failed"
	default:
		return "the units were not listed"
	}
}

var varLine = regexp.MustCompile(`(?m)^\S+\s+(\S+)\s+(\S+)\s+(\S+)\s+(\d+)%\s+/var$`)

// diskFull finds what fills /var, frees it, and starts what fell over.
func diskFull(t *talk) {
	look, ran := t.bash("I look at load, disks and failed units first.", onGuest+"'uptime; df -h; systemctl --failed --no-pager'")
	if !ran {
		return
	}
	before := varLine.FindStringSubmatch(look)
	switch {
	case refused(look):
		t.say("I was not allowed to look, so I know nothing yet:\n\n```\n%s\n```", firstLines(look, 3))
		return
	case unfinished(t, look):
		return
	case before == nil:
		t.say("I could not log in to devvm or read its disks:\n\n```\n%s\n```\nTry `vm status`.", firstLines(look, 4))
		return
	case before[4] != "100" && strings.Contains(look, "\n0 loaded units"):
		t.say("I see no incident now: /var is at %s%% and no unit has failed.", before[4])
		return
	}
	hogs, ran := t.bash("/var is at "+before[4]+"%. What fills it?",
		onGuest+"'sudo lsof +L1; sudo du -xh -d2 /var | sort -rh | head -6; sudo ls -lhS /var/log/t3-serve; journalctl --disk-usage'")
	if !ran {
		return
	}
	if unfinished(t, hogs) {
		return
	}
	if !strings.Contains(hogs, "trace.log") {
		t.say("/var is at %s%%, but I do not recognise what fills it, so I remove nothing:\n\n```\n%s\n```", before[4], firstLines(hogs, 6))
		return
	}
	freed, ran := t.bash("A trace log fills it, and nothing holds deleted files open. I empty that log and trim the journal; both are scratch, no data.",
		onGuest+"'sudo truncate -s 0 /var/log/t3-serve/trace.log; sudo journalctl --vacuum-size=500M; df -h /var'")
	if !ran {
		return
	}
	after := varLine.FindStringSubmatch(freed)
	if after == nil || after[4] == "100" {
		t.say("**/var is still full.** I could not free space:\n\n```\n%s\n```", firstLines(freed, 5))
		return
	}
	restart, ran := t.bash("Space is there. Now the services that fell over.",
		onGuest+"'sudo systemctl restart containerd t3-serve; systemctl is-active t3-serve; systemctl --failed --no-pager; grep -n trace /etc/t3-serve/config.toml'")
	if !ran {
		return
	}
	if unfinished(t, restart) {
		return
	}
	if !activeLine.MatchString(restart) {
		t.say("/var has room again (%s%% used), but **t3-serve does not start**:\n\n```\n%s\n```", after[4], firstLines(restart, 6))
		return
	}
	t.over = true
	t.say("**t3-serve runs again.** /var was at %s%% and is at %s%% now; %s.\n\n"+
		"- Cause: `/var/log/t3-serve/trace.log`%s.\n"+
		"- Done: emptied that log, trimmed the journal to 500M, restarted containerd and t3-serve. No reboot.\n"+
		"- Left for you: %s.", before[4], after[4], units(restart), sizeOf(hogs), leftOver(restart))
}

// leftOver names the setting that will fill the disk again, if it was seen.
func leftOver(seen string) string {
	if strings.Contains(seen, "trace = true") {
		return "`trace = true` in /etc/t3-serve/config.toml will fill it again"
	}
	return "find out who switched tracing on"
}

var traceSize = regexp.MustCompile(`(\d[\d.]*[KMGT])\s.*trace\.log`)

func sizeOf(listing string) string {
	if m := traceSize.FindStringSubmatch(listing); m != nil {
		return " had grown to " + m[1]
	}
	return ""
}
