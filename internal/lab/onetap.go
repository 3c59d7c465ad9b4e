package lab

import (
	"regexp"
	"strings"
)

// oneTaps are the questions behind the bot's one-tap buttons, by how they begin, and the look that answers each.
var oneTaps = []struct {
	begins  *regexp.Regexp
	command string
}{
	{regexp.MustCompile(`(?i)^triage|^something is wrong and i do not know`), onGuest + "'uptime; df -h; free -h; cat /proc/pressure/io; systemctl --failed --no-pager'"},
	{regexp.MustCompile(`(?i)^(memory|oom)\b`), onGuest + "'free -h; cat /proc/pressure/memory; sudo dmesg -T | grep -i \"out of memory\" | tail -5'"},
	{regexp.MustCompile(`(?i)^(a )?disks?\b`), onGuest + "'df -h; sudo du -xh -d2 /var | sort -rh | head -5; cat /proc/pressure/io'"},
	{regexp.MustCompile(`(?i)^(check the )?services\b`), onGuest + "'systemctl --failed --no-pager; systemctl is-system-running'"},
	{regexp.MustCompile(`(?i)^(is )?qemu\b`), "ssh pve status"},
}

// byline is how the bot marks who speaks.
var byline = regexp.MustCompile(`^\s*\[[^\]\n]*\]:?\s*`)

// oneTap is the script for such a question: one look, quoted. It is nil for any other prompt.
func oneTap(prompt string) func(*talk) {
	prompt = byline.ReplaceAllString(prompt, "")
	for _, tap := range oneTaps {
		if !tap.begins.MatchString(prompt) {
			continue
		}
		return func(t *talk) {
			seen, ran := t.bash("", tap.command)
			if !ran {
				return
			}
			switch {
			case refused(seen):
				t.say("I was not allowed to look:\n\n```\n%s\n```", firstLines(seen, 3))
			case code(seen) == "124":
				t.say("**No answer within 10 s.** What came before:\n\n```\n%s\n```\nA command that hangs like this often waits for the disk.",
					firstLines(strings.Replace(seen, "Exit code 124", "", 1), 6))
			case code(seen) == "255":
				t.say("**SSH did not let me in.**\n\n```\n%s\n```\nTry `vm status`.", firstLines(seen, 3))
			default:
				t.say("This is what I see:\n\n```\n%s\n```", firstLines(seen, 16))
			}
		}
	}
	return nil
}

// explain is the answer to everything else after the incident.
func explain(t *talk) {
	t.say("The incident is over, and I am the drill's scripted model: I do not understand free text. " +
		"I can look again (triage, memory, disk space, failed services, QEMU). `bgbot drill --live` lets a real model answer.")
}
