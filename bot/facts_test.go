package bot

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"bgbot/internal/store"
	"bgbot/pve"
)

const (
	stalled = "No block I/O for 12 s, 3 requests waiting: I/O stall; `cycle` (a `reset` keeps the wedged QEMU)"
	panicky = "Guest kernel panic on screen: sysrq triggered crash; `reset` is enough"
	inVain  = "No block I/O since the reset 110 s ago: the guest does not boot; `cycle` (a `reset` keeps this QEMU)"
	asleep  = "QEMU was killed, but 2 threads live on (io_schedule): host storage. Start nothing."
	fine    = "Healthy from outside: CPU 3 %, I/O moving, agent answers; look inside the guest"
)

// host is what a gate says of a VM that has run for 9 days.
func host(verdict string, advice pve.Verb) pve.Result {
	return pve.Result{
		Verb: pve.Status, Text: "VM 102 is running (QEMU 4242, up 9 d 4 h).", Status: "running", Verdict: verdict, Advice: advice,
		LastOp: "reset by bgbot, op 01ab, done 3 h 5 min ago", At: t0, Uptime: 9*86400 + 4*3600 + 600, Forensics: t0.Add(-20 * time.Second),
	}
}

func with(r pve.Result, change func(*pve.Result)) pve.Result {
	change(&r)
	return r
}

var devvm = &Bot{Options: Options{VM: VM{Name: "devvm", ID: 102}}}

// apart is a card's text with an empty line below its state.
func apart(card string) string { return strings.Replace(card, "\n", "\n\n", 1) }

func TestACardSaysWhatAPersonDecidesOn(t *testing.T) {
	const cycles = "\nA cycle stops QEMU and starts a fresh one, with staged config (unsaved guest memory is lost)."
	const resets = "\nA reset reboots the guest inside the same QEMU process, so it does not cure a wedged QEMU."
	const last = "\nLast: reset by bgbot, op 01ab, done 3 h 5 min ago"
	for name, c := range map[string]struct {
		verb pve.Verb
		r    pve.Result
		want string
	}{
		"the advised verb": {
			pve.Cycle, host(stalled, pve.Cycle),
			"🔴 Cycle devvm? running 9 d 4 h · No block I/O for 12 s, 3 requests waiting: I/O stall · forensics 20 s old" +
				"\nThe host advises it: a reset keeps the wedged QEMU." + cycles + last,
		},
		"another verb": {
			pve.Reset, host(stalled, pve.Cycle),
			"🔴 Reset devvm? running 9 d 4 h · No block I/O for 12 s, 3 requests waiting: I/O stall · forensics 20 s old" +
				"\n⚠️ The host advises `cycle`, not reset: a reset keeps the wedged QEMU." + resets + last,
		},
		"a gentler one": {
			pve.Cycle, host(panicky, pve.Reset),
			"🔴 Cycle devvm? running 9 d 4 h · Guest kernel panic on screen: sysrq triggered crash · forensics 20 s old" +
				"\n⚠️ The host advises `reset`, not cycle: reset is enough." + cycles + last,
		},
		"a reason before the verb": {
			pve.Cycle, host("The guest panicked and QEMU holds it; a `reset` would not set it going again; `cycle`", pve.Cycle),
			"🔴 Cycle devvm? running 9 d 4 h · The guest panicked and QEMU holds it · forensics 20 s old" +
				"\nThe host advises it: a reset would not set it going again." + cycles + last,
		},
		"a verb without a reason": {
			pve.Reset, host("QEMU 7 runs, but nobody listens on its control socket; `cycle`", pve.Cycle),
			"🔴 Reset devvm? running 9 d 4 h · QEMU 7 runs, but nobody listens on its control socket · forensics 20 s old" +
				"\n⚠️ The host advises `cycle`, not reset." + resets + last,
		},
		"no verb helps": {
			pve.Cycle, host(asleep, ""),
			"🔴 Cycle devvm? running 9 d 4 h · QEMU was killed, but 2 threads live on (io\\_schedule): host storage. Start nothing." +
				"\n⚠️ The host advises no verb." + cycles + last,
		},
		"nothing is wrong": {
			pve.Cycle, host(fine, ""),
			"🔴 Cycle devvm? running 9 d 4 h · Healthy from outside: CPU 3 %, I/O moving, agent answers · forensics 20 s old" +
				"\n⚠️ The host advises no verb; look inside the guest." + cycles + last,
		},
		"a reset did not help": {
			pve.Cycle, host(inVain, pve.Cycle),
			"🔴 Cycle devvm? running 9 d 4 h · No block I/O since the reset 110 s ago: the guest does not boot · forensics 20 s old" +
				"\nThe host advises it: a reset keeps this QEMU." + cycles + last,
		},
		"a backup runs": {
			pve.Cycle, with(host(stalled, pve.Cycle), func(r *pve.Result) { r.Lock = "backup" }),
			"🔴 Cycle devvm? locked (backup): the host will refuse · running 9 d 4 h, no block I/O for 12 s, 3 requests waiting" + cycles + last,
		},
		"a backup runs, and the verdict says so": {
			pve.Cycle, with(host("Locked (backup), changes refused. "+fine, ""), func(r *pve.Result) { r.Lock, r.Uptime = "backup", 20 }),
			"🔴 Cycle devvm? locked (backup): the host will refuse · running 20 s, healthy from outside" + cycles + last,
		},
		"more than a lock screen holds": {
			pve.Cycle, with(host(strings.Repeat("thread 7 hangs in wchan, ", 9)+"so it is stuck; `cycle`", pve.Cycle), func(r *pve.Result) { r.Lock = "snapshot-delete" }),
			"🔴 Cycle devvm? locked (snapshot-delete): the host will refuse · running 9 d 4 h, thread 7 hangs in wchan, thread 7 hang…" + cycles + last,
		},
		"more than a lock screen holds, without a lock": {
			pve.Cycle, host(strings.Repeat("thread 7 hangs in wchan, ", 9)+"so it is stuck; `cycle`", pve.Cycle),
			"🔴 Cycle devvm? running 9 d 4 h · thread 7 hangs in wchan, thread 7 hangs in wchan, thread 7 hangs in wchan, thread 7 ha…" +
				"\nVerdict: " + strings.Repeat("thread 7 hangs in wchan, ", 9) + "so it is stuck; cycle" +
				"\nThe host advises it. A reset keeps this QEMU." + cycles + last,
		},
		"a stopped VM with a lock": {
			pve.Start,
			pve.Result{Status: "stopped", Lock: "suspended", Verdict: "Locked (suspended), changes refused. Stopped: no QEMU of it runs", Text: "VM 102 is stopped."},
			"🔴 Start devvm? locked (suspended): the host will refuse · stopped\nA start starts the VM if it is stopped.",
		},
		"a throttled disk": {
			pve.Cycle, host("No block I/O for 31 s, 5 requests waiting: I/O stall; scsi0 throttled (hangs before QEMU 10.2.1); `cycle`", pve.Cycle),
			"🔴 Cycle devvm? running 9 d 4 h · No block I/O for 31 s, 5 requests waiting: I/O stall · forensics 20 s old" +
				"\nThe host advises it: scsi0 throttled (hangs before QEMU 10.2.1). A reset keeps this QEMU." + cycles + last,
		},
		"a stopped VM": {
			pve.Start,
			pve.Result{Status: "stopped", Text: "VM 102 is stopped."},
			"🔴 Start devvm? stopped\nA start starts the VM if it is stopped.",
		},
		"an old gate": {
			pve.Cycle,
			pve.Result{Status: "running", Text: "VM 102 is running (QEMU 6557, up 3 s).\nNo change was made."},
			"🔴 Cycle devvm? VM 102 is running (QEMU 6557, up 3 s)." + cycles,
		},
		"what is not known": {
			pve.Cycle,
			pve.Result{Status: "unknown", Uptime: 60, Text: "VM 102: qm does not answer (QEMU 7, up 1 min).\nmore"},
			"🔴 Cycle devvm? VM 102: qm does not answer (QEMU 7, up 1 min)." + cycles,
		},
		"foreign text": {
			pve.Cycle,
			pve.Result{Status: "*paused*", Uptime: 60, Verdict: "<!here> **now**; _x_", Lock: "a`b"},
			"🔴 Cycle devvm? locked (a\\`b): the host will refuse · \\*paused\\*, up 1 min, \\<\\!here\\> \\*\\*now\\*\\*" + cycles,
		},
	} {
		got, want := devvm.question(c.verb, factsOf(c.r)), apart(c.want)
		if got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
		}
		if first := firstLine(got); runes(strings.ReplaceAll(first, `\`, "")) > lockScreen {
			t.Errorf("%s: the first line has %d characters: %s", name, runes(first), first)
		}
	}
}

func TestACardWithoutTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refused := &pve.Unreachable{Host: "pve", Why: pve.ConnectionRefused, Err: errors.New("x")}
		before := factsOf(with(host("No block I/O for 23 s; `cycle`", pve.Cycle), func(r *pve.Result) { r.Uptime, r.Forensics = 23, time.Time{} }))
		before.seen = time.Now()
		passes(4 * time.Second)
		late, lost := before, before
		late.late, lost.err = true, refused
		locked := late
		locked.Lock = "backup"
		const cycle = "\nA cycle stops QEMU and starts a fresh one, with staged config (unsaved guest memory is lost)."
		for _, c := range []struct {
			f    facts
			want string
		}{
			{facts{late: true}, "🔴 Cycle devvm? state not known yet; this card completes itself" + cycle},
			{facts{err: refused}, "🔴 Cycle devvm? its state is unknown: pve refuses the connection: nothing listens on the port. Check that it has booted…" + cycle},
			{late, "🔴 Cycle devvm? 4 s ago: running 23 s · No block I/O for 23 s · asking again" +
				"\nThe host advises it. A reset keeps this QEMU." + cycle + "\nLast: reset by bgbot, op 01ab, done 3 h 5 min ago"},
			{lost, "🔴 Cycle devvm? at " + before.seen.Local().Format("15:04:05") + ": running 23 s · No block I/O for 23 s · no answer now" +
				"\nThe host advises it. A reset keeps this QEMU." +
				"\n⚠️ Pve refuses the connection: nothing listens on the port. Check that it has booted and that sshd runs." + cycle + "\nLast: reset by bgbot, op 01ab, done 3 h 5 min ago"},
			{locked, "🔴 Cycle devvm? 4 s ago: locked (backup): the host will refuse · running 23 s, no block I/O for 23 s · asking again" +
				cycle + "\nLast: reset by bgbot, op 01ab, done 3 h 5 min ago"},
		} {
			if got, want := devvm.question(pve.Cycle, c.f), apart(c.want); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		}
	})
}

func TestALockedCardIsTriedAnyway(t *testing.T) {
	c := store.Confirmation{Verb: string(pve.Cycle), Nonce: "n"}
	for want, f := range map[string]facts{
		"[{confirm:n Try anyway true} {cancel:n Cancel false}]":                          factsOf(with(host(stalled, pve.Cycle), func(r *pve.Result) { r.Lock = "backup" })),
		"[{confirm:n Cycle devvm true} {cancel:n Cancel false} {vm:reset Reset … true}]": factsOf(host(panicky, pve.Reset)),
	} {
		if got := fmt.Sprint(devvm.cardChoices(c, f)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestAStatusSaysItsStateFirst(t *testing.T) {
	const gate = "VM 102 is running (QEMU 4242, up 9 d 4 h).\nLast: reset by bgbot, op 01ab, done 3 h 5 min ago"
	for name, c := range map[string]struct {
		r       pve.Result
		want    string
		buttons string
	}{
		"an advised verb": {
			host(stalled, pve.Cycle),
			"🟠 devvm: running 9 d 4 h · No block I/O for 12 s, 3 requests waiting: I/O stall · forensics 20 s old\n" +
				"The host advises `cycle`: a reset keeps the wedged QEMU.\n" + gate,
			"Cycle …, Forensics, Reset …",
		},
		"health": {
			host(fine, ""),
			"🔵 devvm: running 9 d 4 h · Healthy from outside: CPU 3 %, I/O moving, agent answers · forensics 20 s old\n" +
				"The host advises no verb; look inside the guest.\n" + gate,
			"Forensics, Reset …, Cycle …",
		},
		"a reset that did not help": {
			host(inVain, pve.Cycle),
			"🟠 devvm: running 9 d 4 h · No block I/O since the reset 110 s ago: the guest does not boot · forensics 20 s old\n" +
				"The host advises `cycle`: a reset keeps this QEMU.\n" + gate,
			"Cycle …, Forensics, Reset …",
		},
		"a reset a moment ago": {
			host("Reset 20 s ago: CPU 53 %, and no agent runs yet; give it a moment", ""),
			"🔵 devvm: running 9 d 4 h · Reset 20 s ago: CPU 53 %, and no agent runs yet · forensics 20 s old\n" +
				"The host advises no verb; give it a moment.\n" + gate,
			"Forensics, Reset …, Cycle …",
		},
		"no verb that helps": {
			host(asleep, ""),
			"🟠 devvm: running 9 d 4 h · QEMU was killed, but 2 threads live on (io\\_schedule): host storage. Start nothing.\n" + gate,
			"Forensics, Reset …, Cycle …",
		},
		"evidence that is too thin": {
			host("Too little answered to judge; missing: qmp", ""),
			"🔵 devvm: running 9 d 4 h · Too little answered to judge · forensics 20 s old\n" +
				"The host advises no verb; missing: qmp.\n" + gate,
			"Forensics, Reset …, Cycle …",
		},
		"a lock": {
			with(host("", ""), func(r *pve.Result) {
				r.Lock, r.LastOp, r.Text = "backup", "", "VM 102 is running.\nThe VM is locked (backup)."
			}),
			"🔵 devvm: running 9 d 4 h · locked (backup) · forensics 20 s old\nVM 102 is running.\nThe VM is locked (backup).",
			"Forensics",
		},
		"what the gate says itself is said once": {
			with(host(fine, ""), func(r *pve.Result) { r.Text = "VM 102 is running.\n" + fine + "\nLast: " + r.LastOp }),
			"🔵 devvm: running 9 d 4 h · Healthy from outside: CPU 3 %, I/O moving, agent answers · forensics 20 s old\n" +
				"The host advises no verb; look inside the guest.\nVM 102 is running.\nLast: reset by bgbot, op 01ab, done 3 h 5 min ago",
			"Forensics, Reset …, Cycle …",
		},
		"an old gate": {
			pve.Result{Verb: pve.Status, Status: "running", Text: "VM 102 is running (QEMU 6557, up 3 s).\nNo change was made through this gate yet."},
			"🔵 devvm: VM 102 is running (QEMU 6557, up 3 s).\nNo change was made through this gate yet.",
			"Forensics, Reset …, Cycle …",
		},
		"a stopped VM": {
			pve.Result{
				Verb: pve.Status, Status: "stopped", Verdict: "Stopped; its last task was qmstop by root@pam 5 min ago; `start`", Advice: pve.Start,
				Text: "VM 102 is stopped.\nStopped; its last task was qmstop by root@pam 5 min ago; `start`\nLast: stop by bgbot, op 01ab, done 3 s ago",
			},
			"⏹ devvm: stopped; its last task was qmstop by root@\u2060pam 5 min ago\nLast: stop by bgbot, op 01ab, done 3 s ago",
			"Start …",
		},
		"forensics": {
			with(host(panicky, pve.Reset), func(r *pve.Result) { r.Verb, r.LastOp, r.Text = pve.Forensics, "", "Captured 14 probes in 3.1 s." }),
			"🔎 devvm: running 9 d 4 h · Guest kernel panic on screen: sysrq triggered crash\n" +
				"The host advises `reset`: reset is enough.\nCaptured 14 probes in 3.1 s.",
			"Reset …, Cycle …",
		},
		"forensics of a gate that says no more": {
			pve.Result{Verb: pve.Forensics, Verdict: stalled, Advice: pve.Cycle, Text: stalled + "\nForensics of VM 102: 14 of 15 probes answered.\nNo answer: screen"},
			"🔎 devvm: No block I/O for 12 s, 3 requests waiting: I/O stall\nThe host advises `cycle`: a reset keeps the wedged QEMU.\n" +
				"Forensics of VM 102: 14 of 15 probes answered.\nNo answer: screen",
			"Cycle …, Reset …",
		},
		"advice that is no verb": {
			host("odd; `rm -rf`", "rm -rf"),
			"🟠 devvm: running 9 d 4 h · odd · forensics 20 s old\nThe host advises no verb; rm -rf.\n" + gate,
			"Forensics, Reset …, Cycle …",
		},
	} {
		got := devvm.resultText(operation{verb: c.r.Verb}, pve.Report{Result: c.r}, nil, reach{}, time.Second)
		if got.Body != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got.Body, c.want)
		}
		var labels []string
		for _, choice := range got.Choices {
			labels = append(labels, choice.Label)
		}
		if buttons := strings.Join(labels, ", "); buttons != c.buttons {
			t.Errorf("%s: the buttons are %q, want %q", name, buttons, c.buttons)
		}
	}
}

func TestWhatCameOfAChange(t *testing.T) {
	done := pve.Result{Verb: pve.Cycle, Op: "c81f", Status: "running", Text: "VM 102 was cycled in 5.2 s: QEMU 7 is gone, QEMU 9 runs."}
	back := reach{asked: true, at: t0}
	seen := func(out string) reach { r := back; r.inside = readInside(out); return r }
	const gate = "\nVM 102 was cycled in 5.2 s: QEMU 7 is gone, QEMU 9 runs."
	const ok = "✅ devvm is back after 41 s (cycle by operator, op c81f). SSH answered."
	for name, c := range map[string]struct {
		r    pve.Result
		up   reach
		want string
	}{
		"no systemd":    {done, back, ok + gate},
		"all is well":   {done, seen("running\n"), ok + " No failed units" + gate},
		"a failed unit": {done, seen("degraded\nt3-serve.service loaded failed failed T3\n"), ok + " 1 failed unit: t3-serve" + gate},
		"many failed units": {
			done, seen("degraded\n" + strings.Repeat("a_b.mount loaded failed failed X Y\n", 7)),
			ok + "\n7 failed units: a\\_b.mount, a\\_b.mount, a\\_b.mount, a\\_b.mount, a\\_b.mount and 2 more" + gate,
		},
		"still starting": {done, seen("starting\n"), ok + " The system is still starting" + gate},
		"a look that hangs": {
			done,
			reach{asked: true, at: t0, inside: inside{err: &pve.Unreachable{Host: "devvm", Why: pve.Stuck}}},
			ok + "\n⚠️ I could not look inside: devvm lets us in, but commands do not come back: the machine is likely hung." + gate,
		},
		"no login": {
			with(done, func(r *pve.Result) { r.Verdict, r.Advice = stalled, pve.Cycle }),
			reach{asked: true, err: &pve.Unreachable{Host: "devvm", Why: pve.ConnectionRefused}},
			"🟠 devvm is not back after 41 s (cycle by operator, op c81f): no SSH login.\n" +
				"devvm refuses the connection: nothing listens on the port. Check that it has booted and that sshd runs." + gate +
				"\nBefore the cycle: No block I/O for 12 s, 3 requests waiting: I/O stall",
		},
		"a reason that is none for the verb": {
			with(done, func(r *pve.Result) {
				r.Verdict, r.Advice = "No block I/O for 31 s, 5 requests waiting: I/O stall; scsi0 throttled (hangs before QEMU 10.2.1); `cycle`", pve.Cycle
			}),
			back,
			ok + gate + "\nBefore the cycle: No block I/O for 31 s, 5 requests waiting: I/O stall; scsi0 throttled (hangs before QEMU 10.2.1)",
		},
		"nothing that was advised": {
			with(done, func(r *pve.Result) { r.Verdict = fine }),
			back,
			ok + gate + "\nBefore the cycle: Healthy from outside: CPU 3 %, I/O moving, agent answers; look inside the guest",
		},
		"not up when the host looked again, and then SSH": {
			with(done, func(r *pve.Result) { r.Exit, r.Verdict, r.Advice = pve.Unverified, stalled, pve.Cycle }),
			back,
			ok + gate,
		},
		"not up when the host looked again, and then half of it": {
			with(done, func(r *pve.Result) { r.Exit, r.Verdict, r.Advice = pve.Unverified, stalled, pve.Cycle }),
			reach{asked: true, at: t0, inside: inside{err: &pve.Unreachable{Host: "devvm", Why: pve.Stuck}}},
			ok + "\n⚠️ I could not look inside: devvm lets us in, but commands do not come back: the machine is likely hung." + gate +
				"\nAfter the cycle: No block I/O for 12 s, 3 requests waiting: I/O stall",
		},
	} {
		got := devvm.resultText(operation{verb: pve.Cycle, name: "operator"}, pve.Report{Result: c.r}, nil, c.up, 41*time.Second)
		if got.Body != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got.Body, c.want)
		}
		if first := firstLine(got.Body); runes(first) > lockScreen {
			t.Errorf("%s: the first line has %d characters", name, runes(first))
		}
	}
}

func FuzzReadInside(f *testing.F) {
	f.Add("degraded\nt3-serve.service loaded failed failed T3\n")
	f.Add("  UNIT LOAD ACTIVE SUB\n\n0 loaded units listed.\nrunning\n● x.service not-found failed failed x")
	f.Fuzz(func(t *testing.T, out string) {
		in := readInside(out)
		if said := in.said(); (in.state == "") != (said == "") && in.state == "" || strings.Contains(said, "\n") || len(in.failed) > len(out) {
			t.Errorf("%q: %+v says %q", out, in, said)
		}
	})
}
