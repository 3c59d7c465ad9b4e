package gate_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate"
)

func TestOnlyAnExactVerbIsAVerb(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	const words = "; use one of: status forensics start reset stop cycle. Nothing was run."
	for asked, want := range map[string]string{
		"":                               "No verb was given" + words,
		"status x":                       `Rejected: "status x" is not a verb` + words,
		"cycle;id":                       `Rejected: "cycle;id" is not a verb` + words,
		"cycle\n":                        `Rejected: "cycle\n" is not a verb` + words,
		"\nstatus":                       `Rejected: "\nstatus" is not a verb` + words,
		" status":                        `Rejected: " status" is not a verb` + words,
		"STATUS":                         `Rejected: "STATUS" is not a verb` + words,
		"сycle":                          `Rejected: "сycle" is not a verb` + words, // a Cyrillic с
		"stop\x00":                       `Rejected: "stop\x00" is not a verb` + words,
		"--help":                         `Rejected: "--help" is not a verb` + words,
		"$(reboot)":                      `Rejected: "$(reboot)" is not a verb` + words,
		strings.Repeat("cycle", 200_000): `Rejected: "` + strings.Repeat("cycle", 8) + `…" is not a verb` + words,
	} {
		r := h.run(asked)
		if r.exit != pve.Rejected || r.result.Text != want {
			t.Errorf("%.40q: got %d %q, want %d %q", asked, r.exit, r.result.Text, pve.Rejected, want)
		}
	}
	if got := h.calls(); len(got) != 0 {
		t.Errorf("qm was called with %v", got)
	}
}

func TestAReadOnlyKeyChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	for _, verb := range []string{"start", "reset", "stop", "cycle"} {
		h.run(verb, "--allow", "status,forensics").want(pve.Rejected,
			"Rejected: this key may not "+verb+", only status, forensics. Nothing was run.")
	}
	if got := h.calls(); len(got) != 0 {
		t.Errorf("qm was called with %v", got)
	}
	if r := h.run("status", "--allow", "status,forensics"); r.exit != pve.Done || r.result.Status != "running" {
		t.Errorf("got %+v", r.result)
	}
}

func TestAWrongCommandLineIsTheGatesOwnFailure(t *testing.T) {
	t.Parallel()
	for want, argv := range map[string][]string{
		"pve-gate: --vmid must be the number of a VM, 100 or more\n":                                             {"g"},
		"pve-gate: flag provided but not defined: -vm; correct command= in authorized_keys\n":                    {"g", "--vm", "102"},
		"pve-gate: --format must be text or jsonl, not \"xml\"\n":                                                {"g", "--vmid", "102", "--format", "xml"},
		"pve-gate: it takes flags only; the verb is SSH_ORIGINAL_COMMAND\n":                                      {"g", "--vmid", "102", "stop"},
		"pve-gate: --allow: \"all\" is not a verb; use one of: status forensics start reset stop cycle\n":        {"g", "--vmid", "102", "--allow", "all"},
		"pve-gate: --allow is empty; name the verbs of this key, or leave --allow out if it may have them all\n": {"g", "--vmid", "102", "--allow", ""},
		"pve-gate: --allow: \"\" is not a verb; use one of: status forensics start reset stop cycle\n":           {"g", "--vmid", "102", "--allow=status,"},
		"pve-gate: --qm, --run-dir and --state-dir must be absolute paths\n":                                     {"g", "--vmid", "102", "--qm", "qm"},
	} {
		var out, errOut bytes.Buffer
		if code := gate.Main(argv, []string{"SSH_ORIGINAL_COMMAND=status"}, &out, &errOut); code != int(pve.Broken) || errOut.String() != want {
			t.Errorf("%v: got %d %q, want %q", argv, code, errOut.String(), want)
		}
	}
}

func TestHelpAndVersion(t *testing.T) {
	t.Parallel()
	for flag, want := range map[string]string{"--help": "forced command", "--version": "pve-gate"} {
		var out, errOut bytes.Buffer
		if code := gate.Main([]string{"g", flag}, nil, &out, &errOut); code != 0 || !strings.Contains(out.String(), want) {
			t.Errorf("%s: got %d %q", flag, code, out.String())
		}
	}
}

func TestStatusSaysHowItIsAndWhatCameLast(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	r := h.run("status")
	if want := fmt.Sprintf("VM 102 is running (QEMU %d, up ", h.pid()); !strings.HasPrefix(r.result.Text, want) || r.result.Status != "running" {
		t.Errorf("got %q", r.result.Text)
	}
	stop := h.run("stop")
	r = h.run("status").want(pve.Done, "VM 102 is stopped.")
	if r.result.Verdict == "" || r.result.Advice != pve.Start || r.result.Uptime != 0 || time.Since(r.result.Forensics) > time.Minute {
		t.Errorf("the facts of a stopped VM are %+v", r.result)
	}
	if want := "stop by key test, op " + stop.result.Op + ", done "; !strings.HasPrefix(r.result.LastOp, want) || r.result.Status != "stopped" {
		t.Errorf("got %q, want %q", r.result.LastOp, want)
	}
}

func TestStatusWithoutQmSaysWhatTheProcessShows(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	h.file("hang-status", "")
	r := h.run("status")
	if want := fmt.Sprintf("VM 102: qm does not answer (QEMU %d, up ", h.pid()); !strings.HasPrefix(r.result.Text, want) || r.result.Status != "unknown" {
		t.Errorf("got %q %q", r.result.Status, r.result.Text)
	}
	h.file("say-status", "pid: 1\nqmpstatus: running\nstatus: running\nlock: backup\n")
	h.remove("hang-status")
	r = h.run("status")
	if want := "Locked (backup), changes refused."; !strings.Contains(r.result.Text, want) || r.result.Lock != "backup" {
		t.Errorf("got %q and %q, want %q", r.result.Lock, r.result.Text, want)
	}
	h.file("say-status", "status: stopped\n")
	r = h.run("status")
	r.want(pve.Done, fmt.Sprintf("VM 102 is not dead: qm says stopped, but threads of QEMU %d are left. Start nothing.", h.pid()))
}

func TestStatusTellsAnInterruptedChange(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	began := time.Now().Add(-3 * time.Minute).UTC()
	for _, was := range []struct{ verb, after, mend string }{
		{"cycle", "verdict", "say cycle to begin again"},
		{"cycle", "stop", "say cycle to begin again"},
		{"cycle", "stopped", "say start to finish it"},
		{"cycle", "start", "qm start had come back, so look whether the VM is up"},
		{"cycle", "writes", "qm start had come back, so look whether the VM is up"},
		{"start", "stopped", "say start to finish it"},
		{"start", "qmp", "qm start had come back, so look whether the VM is up"},
		{"stop", "stop", "say stop to finish it"},
		{"reset", "reset", "it may or may not have been reset; say reset again if it is still dead"},
	} {
		line, err := json.Marshal(map[string]any{
			"op": "c81f", "verb": was.verb, "key": "bgbot", "began": began, "step": "some", "state": "start",
			"since": began, "after": was.after, "gate": map[string]any{"pid": os.Getpid(), "start": 1}, // another process's start
		})
		if err != nil {
			t.Fatal(err)
		}
		h.file("state/102.jsonl", string(line)+"\n") // as after a reboot: nothing in the run folder
		r := h.run("status")
		want := was.verb + " by key bgbot, op c81f was interrupted after `" + was.after + "`, 3 min "
		if got := r.result.LastOp; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, " s ago; "+was.mend) || !strings.HasSuffix(r.result.Text, "\nLast: "+got) {
			t.Errorf("got %q, want %q… and %q", got, want, was.mend)
		}
	}
}

func TestEvidenceIsTakenFirstAndWithoutSecrets(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	r := h.run("cycle")
	i := slices.IndexFunc(r.steps, func(s pve.Step) bool { return s.Name != "" })
	if i < 0 || r.steps[i].Name != "forensics-"+r.result.Op+".txt" {
		t.Fatalf("no evidence in\n%s", r.out)
	}
	if stop := slices.IndexFunc(r.steps, func(s pve.Step) bool { return s.Step == "stop" }); stop < i {
		t.Error("the stop came before the evidence")
	}
	text := string(r.steps[i].Data)
	for _, want := range []string{"== qm status", "== qm config", "memory: 4096", "cipassword: [redacted]", "cur args: [redacted]", "MemTotal"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(r.out+text, "hunter2") || strings.Contains(text, "-secret") {
		t.Error("a secret of the config got out")
	}
	for _, kept := range []string{"run/pve-gate/102-change-", "state/102-change-"} {
		if got := h.read(kept + r.steps[i].Name); got != text {
			t.Errorf("%s differs from what was sent", kept)
		}
	}
	told := slices.ContainsFunc(r.steps, func(s pve.Step) bool {
		return s.Step == "forensics" && strings.HasSuffix(s.Text, ", 102-change-"+r.steps[i].Name+" kept in "+h.path("state"))
	})
	if !told {
		t.Errorf("where it is kept is not said, the name first:\n%s", files.ReplaceAllString(r.out, "…"))
	}
}

func TestEvidenceThatHangsDoesNotBlock(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	for _, verb := range []string{"status", "pending"} {
		h.file("hang-"+verb, "")
	}
	began := time.Now()
	r := h.run("forensics")
	if took := time.Since(began); took > 15*time.Second { // 10 s by contract, and a busy machine
		t.Errorf("it took %s", took)
	}
	if r.exit != pve.Done || !strings.Contains(r.result.Text, "\nNo answer: ") || !strings.Contains(r.result.Text, "qm status, ") || !strings.HasSuffix(r.result.Text, "qm pending") {
		t.Errorf("got %q", r.result.Text)
	}
}

func TestOldEvidenceIsRemovedButNotThatOfAChange(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	name := "102-change-forensics-" + h.run("stop").result.Op + ".txt"
	long := time.Now().Add(-time.Hour)
	for _, folder := range []string{"run/pve-gate/", "state/"} {
		for i := range 31 {
			old := fmt.Sprintf("%s102-forensics-%04d.txt", folder, i)
			h.file(old, "")
			if err := os.Chtimes(h.path(old), long, long); err != nil {
				t.Fatal(err)
			}
		}
	}
	newest := "102-forensics-" + h.run("forensics").result.Op + ".txt"
	for folder, most := range map[string]int{"run/pve-gate/": 5, "state/": 30} {
		if kept, _ := filepath.Glob(h.path(folder + "102-forensics-*")); len(kept) != most {
			t.Errorf("in %s: %d captures on demand were kept, want %d", folder, len(kept), most)
		}
		if len(h.read(folder+newest)) == 0 {
			t.Errorf("in %s: the newest capture is empty", folder)
		}
		if text := h.read(folder + name); !strings.Contains(text, ", for stop, ") {
			t.Errorf("in %s: the evidence of the change is %q", folder, text)
		}
	}
}

// The host's clock was set back, so all that is kept seems to come from later than what is kept now.
func TestEvidenceIsKeptWhenTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run("forensics")
	later := time.Now().Add(24 * time.Hour)
	for _, folder := range []string{"run/pve-gate/", "state/"} {
		for i := range 31 {
			old := fmt.Sprintf("%s102-forensics-%04d.txt", folder, i)
			h.file(old, "")
			if err := os.Chtimes(h.path(old), later, later); err != nil {
				t.Fatal(err)
			}
		}
	}
	kept := "102-forensics-" + h.run("forensics").result.Op + ".txt"
	for _, folder := range []string{"run/pve-gate/", "state/"} {
		if _, err := os.Stat(h.path(folder + kept)); err != nil {
			t.Errorf("the step said that it is kept: %v", err)
		}
	}
}

func TestTheTextFormatIsForPeople(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	r := h.run("status", "--format", "text")
	if !strings.HasPrefix(r.out, "VM 102 is running (QEMU ") || !strings.Contains(r.errOut, " accepted  ok    status of VM 102, asked by key test\n") {
		t.Errorf("got %q and %q", r.out, r.errOut)
	}
	if r = h.run("id", "--format", "text"); r.out != "" || !strings.Contains(r.errOut, `Rejected: "id" is not a verb`) {
		t.Errorf("got %q and %q", r.out, r.errOut)
	}
	if r = h.run("forensics", "--format", "text"); !strings.Contains(r.out, "\n== qm status") {
		t.Errorf("got %q", r.out)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	r := h.run("cycle", "--dry-run")
	r.want(pve.Done, firstLine(r.result.Text))
	if !strings.HasPrefix(r.result.Text, "Dry run of cycle: nothing was changed. VM 102: QEMU ") || len(h.changed()) != 0 {
		t.Errorf("got %q, qm %v", r.result.Text, h.changed())
	}
	if _, err := os.Stat(h.path("run/pve-gate/102.op")); err == nil {
		t.Error("it left a record of a change")
	}
}

// deaf blocks its writer until the test ends.
type deaf struct{ until chan struct{} }

func (d deaf) Write([]byte) (int, error) { <-d.until; return 0, errors.New("gone") }

func TestAListenerThatStopsReadingDoesNotStopTheChange(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	old := h.pid()
	silence := deaf{make(chan struct{})}
	defer close(silence.until)
	code := gate.Main(h.flags(), []string{"SSH_ORIGINAL_COMMAND=cycle"}, silence, silence)
	if code != 0 || h.pid() == old || len(h.qemus()) != 1 {
		t.Errorf("exit %d, QEMU %d → %v", code, old, h.qemus())
	}
}

func TestADiskThatCannotBeWrittenDoesNotStopTheChange(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	if err := os.RemoveAll(h.path("state")); err != nil {
		t.Fatal(err)
	}
	h.file("state", "a file in place of the folder")
	r := h.run("cycle")
	if r.exit != pve.Done || strings.Count(r.out, "the journal is not kept on disk") != 1 {
		t.Errorf("got %d\n%s", r.exit, r.out)
	}
}

func TestTheJournalHasEachStepAndWhoAsked(t *testing.T) {
	t.Parallel()
	h := newHost(t).withVM()
	r := h.run("stop")
	lines := strings.Split(strings.TrimSpace(h.read("state/102.jsonl")), "\n")
	for _, step := range []string{"lock", "forensics", "check", "stop", "stopped"} {
		if !slices.ContainsFunc(lines, func(l string) bool {
			return strings.Contains(l, `"op":"`+r.result.Op+`"`) && strings.Contains(l, `"step":"`+step+`"`)
		}) {
			t.Errorf("no line for %s in\n%s", step, strings.Join(lines, "\n"))
		}
	}
}

func TestRejectionsAreKeptApartFromTheChanges(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const nothing = "No change was made through this gate yet."
	h.run("cycle", "--allow", "status")
	if r := h.run("status"); !strings.HasSuffix(r.result.Text, nothing) || r.result.LastOp != "" {
		t.Errorf("a rejected cycle is told as a change: %q", r.result.Text)
	}
	stop := h.run("stop").result.Op
	changes := h.read("state/102.jsonl")
	for range 700 { // 140 bytes each: more than one file of 64 KiB
		h.run("cycle;id")
	}
	if err := os.RemoveAll(h.path("run/pve-gate")); err != nil { // as after a reboot
		t.Fatal(err)
	}
	if r := h.run("status"); !strings.HasPrefix(r.result.LastOp, "stop by key test, op "+stop+", done ") {
		t.Errorf("last op: %q", r.result.LastOp)
	}
	if h.read("state/102.jsonl") != changes {
		t.Error("the rejections are in the journal of the changes")
	}
	newest, old := h.read("state/102.rejected.jsonl"), h.read("state/102.rejected.jsonl.1")
	if !strings.Contains(newest, `"verb":"cycle;id","key":"test","from":"127.0.0.1"`) || !strings.Contains(newest, `"exit":2`) {
		t.Errorf("the rejection is not kept: %s", firstLine(newest))
	}
	if len(newest)+len(old) > 2*(64<<10+500) {
		t.Errorf("the rejections take %d bytes", len(newest)+len(old))
	}
}
