package lab

import (
	"regexp"
	"strings"
)

// silent looks from outside and from inside, and goes on only if the guest does not answer.
func silent(t *talk, back string) (host string, goOn bool) {
	host, ran := t.bash("I look at the host's view first, then at the guest.", "ssh pve status")
	if !ran {
		return "", false
	}
	inside, ran := t.bash("", probe+"uptime")
	if !ran {
		return "", false
	}
	if code(inside) == "0" && !refused(inside) {
		t.say("%s: devvm answers.\n\n```\n%s\n```\nTell me when it is gone again.", back, firstLines(inside, 2))
		return "", false
	}
	return host, true
}

// wedgedLoop finds that neither guest nor QEMU answers, and cycles.
func wedgedLoop(t *talk) {
	host, goOn := silent(t, "I cannot find a hang now")
	if !goOn {
		return
	}
	evidence, ran := t.bash("No answer at all. I save the evidence before I change anything.", "ssh pve forensics")
	if !ran {
		return
	}
	cycled, ran := t.bash("The guest is silent, and so is the QEMU process around it:\n\n> "+verdict(host, evidence)+
		"\n\nA reset needs QEMU to listen, so only a cycle helps: it starts a fresh one. What is only in the guest's memory is lost.", "ssh pve cycle")
	if !ran {
		return
	}
	afterChange(t, cycled, change{"cycle", "cycled", "nothing in it answers", "- Cause: the QEMU process itself hung.\n- Done: one cycle. No file was touched.\n" +
		"- By day: find out what stopped QEMU; the forensics from before the cycle are kept."})
}

// kernelPanic finds a dead guest in a QEMU that is well, sees why in the evidence, and resets.
func kernelPanic(t *talk) {
	host, goOn := silent(t, "I see no crash now")
	if !goOn {
		return
	}
	evidence, ran := t.bash("The host says that it runs, and SSH gets no answer. The picture of its screen may tell more.", "ssh pve forensics")
	if !ran {
		return
	}
	cause, why := "the guest hung; why is not known", "Nothing tells why, and QEMU itself is well:"
	if strings.Contains(strings.ToLower(evidence), "kernel panic") {
		cause, why = "the guest's kernel panicked; the picture of the screen has its last words", "Its kernel has crashed:"
	}
	reset, ran := t.bash(why+"\n\n> "+verdict(evidence, host)+"\n\nQEMU answers, so a reset is enough, and quicker than a cycle.", "ssh pve reset")
	if !ran {
		return
	}
	afterChange(t, reset, change{"reset", "reset", "nothing in it answers", "- Cause: " + cause +
		".\n- Done: one reset.\n- By day: read the trace in the picture, and look for the same words in the kernel's bug reports."})
}

var (
	verdictStep  = regexp.MustCompile(`(?m)^ok +verdict: (.+)$`)
	verdictWords = regexp.MustCompile("(?i)panic|stall|hung|hang|stopped by a signal|silent|spins|throttled")
)

// verdict is the host's, or the line that says most, of the texts in which one is found.
func verdict(texts ...string) string {
	for _, text := range texts {
		if said := verdictStep.FindStringSubmatch(text); said != nil {
			return said[1]
		}
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(line); verdictWords.MatchString(line) {
				return line
			}
		}
	}
	return firstLines(texts[0], 1)
}

// outOfMemory finds who has the memory, stops it, and starts what was killed for it.
func outOfMemory(t *talk) {
	look, ran := t.bash("I look at load, memory and failed units first.",
		onGuest+`'uptime; free -m; systemctl --failed --no-pager; sudo dmesg | grep -i "out of memory" | tail -3; ps -eo pid,rss,comm --sort=-rss | head -5'`)
	if !ran {
		return
	}
	switch {
	case unreadable(t, look, "Mem:"):
		return
	case !strings.Contains(strings.ToLower(look), "out of memory"):
		t.say("I see no sign that memory ran out:\n\n```\n%s\n```", firstLines(look, 8))
		return
	}
	if _, ran := t.bash("The kernel has killed for memory. Is the VM itself well, seen from outside?", "ssh pve status"); !ran {
		return
	}
	who, ran := t.bash("", onGuest+"'systemctl status t3-serve t3-indexer --no-pager'")
	if !ran {
		return
	}
	if !strings.Contains(who, "in the index") {
		t.say("Memory ran out, but I do not recognise who took it, so I end nothing:\n\n```\n%s\n```", firstLines(look, 12))
		return
	}
	restart, ran := t.bash("t3-indexer holds the memory, and each start of t3-serve is killed for it. The index can be built again, so I stop the indexer.",
		onGuest+"'sudo systemctl stop t3-indexer; sudo systemctl restart t3-serve; systemctl is-active t3-serve; free -m; systemctl --failed --no-pager'")
	if !ran {
		return
	}
	if unfinished(t, restart) {
		return
	}
	if !activeLine.MatchString(restart) {
		t.say("t3-indexer is stopped, but **t3-serve does not start**:\n\n```\n%s\n```", firstLines(restart, 8))
		return
	}
	t.over = true
	t.say("**t3-serve runs again.** Memory is free again, and %s.\n\n- Cause: `t3-indexer` had taken the memory%s; the kernel killed t3-serve for it.\n"+
		"- Done: stopped t3-indexer, restarted t3-serve. No reboot.\n- Left for you: t3-indexer has no limit (`MemoryMax=`); it will do it again.", units(restart), indexed(who))
}

var (
	activeLine  = regexp.MustCompile(`(?m)^active$`)
	indexLine   = regexp.MustCompile(`(\d+ MB) of code in the index`)
	hostLine    = regexp.MustCompile(`(?m)^VM \d+ .+$`)
	lockedWords = regexp.MustCompile(`(?i)\blocked\b`)
	configLine  = regexp.MustCompile(`config\.toml:(\d+): unknown key '(\w+)'`)
)

func indexed(log string) string {
	if all := indexLine.FindAllStringSubmatch(log, -1); all != nil {
		return ", " + all[len(all)-1][1] + " of it for its index"
	}
	return ""
}

// unreadable ends the turn if a look into the guest shows nothing.
func unreadable(t *talk, look, expected string) bool {
	switch {
	case refused(look):
		t.say("I was not allowed to look, so I know nothing yet:\n\n```\n%s\n```", firstLines(look, 3))
	case unfinished(t, look):
	case !strings.Contains(look, expected):
		t.say("I could not log in to devvm:\n\n```\n%s\n```\nTry `vm status`.", firstLines(look, 4))
	default:
		return false
	}
	return true
}

// serviceDown reads why t3-serve does not start, and corrects the line.
func serviceDown(t *talk) {
	look, ran := t.bash("I look at the failed units first.", onGuest+"'systemctl --failed --no-pager; systemctl status t3-serve --no-pager; df -h /var; free -m'")
	if !ran {
		return
	}
	bad := configLine.FindStringSubmatch(look)
	switch {
	case unreadable(t, look, "loaded units"):
		return
	case bad == nil && strings.Contains(look, "\n0 loaded units"):
		t.say("I see no incident now: no unit has failed.")
		return
	case bad == nil:
		t.say("**t3-serve is down**, and I do not understand why, so I change nothing:\n\n```\n%s\n```", firstLines(look, 14))
		return
	}
	if _, ran := t.bash("It does not accept line "+bad[1]+" of its configuration. Is the VM itself well, seen from outside?", "ssh pve status"); !ran {
		return
	}
	text, ran := t.bash("", onGuest+"cat /etc/t3-serve/config.toml")
	if !ran {
		return
	}
	if strings.Contains(text, "\nlisten ") || strings.HasPrefix(text, "listen ") || !strings.Contains(text, bad[2]+" = ") {
		t.say("Line %s of /etc/t3-serve/config.toml is wrong, but I cannot tell what it should be:\n\n```\n%s\n```", bad[1], firstLines(text, 8))
		return
	}
	fixed, ran := t.bash("`"+bad[2]+"` should read `listen`, which is missing. I keep a copy, correct that one word, and start the service.",
		onGuest+`'cd /etc/t3-serve && sudo cp config.toml config.toml.before && sudo sed -i "`+bad[1]+`s/^`+bad[2]+` /listen /" config.toml; `+
			"sudo systemctl restart t3-serve; systemctl --failed --no-pager; diff config.toml.before config.toml; systemctl is-active t3-serve'")
	if !ran {
		return
	}
	if unfinished(t, fixed) {
		return
	}
	if !activeLine.MatchString(fixed) {
		t.say("I corrected line %s, but **t3-serve does not start**:\n\n```\n%s\n```", bad[1], firstLines(fixed, 8))
		return
	}
	t.over = true
	t.say("**t3-serve runs again.** It is active, and %s.\n\n- Cause: line %s of /etc/t3-serve/config.toml said `%s` in place of `listen`.\n"+
		"- Done: corrected that word, restarted t3-serve. The old file is config.toml.before.\n- Left for you: check the file before a restart.", units(fixed), bad[1], bad[2])
}

// hostSaid is the result's line among those of the steps.
func hostSaid(result string) string {
	if line := hostLine.FindString(result); line != "" {
		return line
	}
	return firstLines(strings.TrimPrefix(result, "Exit code "+code(result)), 1)
}

// lockedVM asks for the cycle that the operator wants, is refused because of the lock, and repairs from inside.
func lockedVM(t *talk) {
	host, ran := t.bash("Before a cycle I look, from outside and inside.", "ssh pve status")
	if !ran {
		return
	}
	look, ran := t.bash("", onGuest+"'uptime; systemctl status t3-serve --no-pager; df -h /var'")
	if !ran {
		return
	}
	if unreadable(t, look, "t3-serve.service") {
		return
	}
	if strings.Contains(look, "active (running)") {
		t.say("I see no incident now: t3-serve is active.")
		return
	}
	why := "The VM itself is well; t3-serve was only stopped. You asked for a cycle, so I ask the host for one."
	if lockedWords.MatchString(host) {
		why = "The VM itself is well; t3-serve was only stopped, and the VM is locked. You asked for a cycle, so I ask; I expect the host to refuse."
	}
	cycled, ran := t.bash(why, "ssh pve cycle")
	if !ran {
		return
	}
	if code(cycled) == "0" && !refused(cycled) {
		afterChange(t, cycled, change{verb: "cycle", done: "cycled", lessons: "- Done: one cycle, as you asked."})
		return
	}
	started, ran := t.bash("No cycle, and nothing was touched:\n\n> "+hostSaid(cycled)+"\n\nNone is needed: I start t3-serve from inside.",
		onGuest+"'sudo systemctl start t3-serve; systemctl is-active t3-serve; systemctl --failed --no-pager'")
	if !ran {
		return
	}
	if unfinished(t, started) {
		return
	}
	if !activeLine.MatchString(started) {
		t.say("**t3-serve does not start**, and the VM may not be cycled:\n\n```\n%s\n```", firstLines(started, 8))
		return
	}
	t.over = true
	t.say("**t3-serve runs again.** It is active, and %s.\n\n- Cause: it was stopped for a backup and not started again.\n"+
		"- Done: started it from inside. No cycle: the host refused it, since the backup still holds the VM.\n"+
		"- Left for you: look at the backup. Nobody may unlock the VM while it runs.", units(started))
}
