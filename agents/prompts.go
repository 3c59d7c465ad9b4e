package agents

// Prompt is a question that people ask with one tap.
type Prompt struct {
	ID    string // stands behind the button
	Label string // stands on it
	Text  string // what the agent is asked
}

// Prompts lists them in the order of the buttons.
func Prompts() []Prompt {
	return []Prompt{
		{
			ID: "triage", Label: "Triage",
			Text: "Something is wrong and I do not know what. Look at pressure, load, stuck tasks, memory, disks, failed services and the kernel log. " +
				"Tell me in a few lines what is broken, how sure you are, and the next step. Change nothing yet.",
		},
		{
			ID: "memory", Label: "Memory / OOM",
			Text: "Memory looks like the trouble. Show what uses it, swap, memory pressure, and whether the OOM killer has struck and whom. " +
				"If one process is plainly to blame and can be restarted safely, do that and check that it helped; else tell me what you would do.",
		},
		{
			ID: "disk", Label: "Disk",
			Text: "A disk looks full or broken. Check space and inodes of every file system, what is largest, deleted files that are still open, I/O errors and read-only mounts. " +
				"Free what is plainly junk, check that it helped, and ask before you delete anything that somebody may want.",
		},
		{
			ID: "services", Label: "Services",
			Text: "Check the services: which have failed or keep restarting, since when, and what their journal says. " +
				"Restart what has simply died, check that it stays up, and tell me the cause of the rest.",
		},
		{
			ID: "qemu", Label: "QEMU wedged?",
			Text: "Is QEMU itself wedged? Compare what the guest says (login, tasks in state D, a small write with a time limit) with what the host says (ssh pve status, ssh pve forensics). " +
				"Tell me whether it is the guest or QEMU, with the evidence, and whether a reset would be enough or it takes a cycle. Do neither yet.",
		},
	}
}
