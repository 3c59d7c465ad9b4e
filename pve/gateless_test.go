package pve_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"bgbot/pve"
)

func TestEveryExitOfTheGateIsAVerdict(t *testing.T) {
	t.Parallel()
	s := newScene(t, `cat $D/say; exit $(cat $D/exit)`)
	for code, word := range map[string]string{
		"0": "done", "2": "rejected", "3": "busy", "4": "refused", "5": "failed", "6": "unverified", "7": "broken", "1": "exit 1",
	} {
		s.file("exit", code)
		s.file("say", `{"result":{"exit":`+code+`,"text":"as it is"}}`)
		report, err := s.Run(t.Context(), pve.Cycle, nil)
		if err != nil || report.Result.Exit.String() != word || report.Result.Text != "as it is" || len(report.Notes) != 0 {
			t.Errorf("%s: got %+v, %v", code, report, err)
		}
	}
}

func TestTheExitStatusWinsOverTheResult(t *testing.T) {
	t.Parallel()
	s := newScene(t, `echo '{"result":{"exit":0,"text":"all is well"}}'; exit 4`)
	report, err := s.Run(t.Context(), pve.Cycle, nil)
	if err != nil || report.Result.Exit != pve.Refused || len(report.Notes) != 1 ||
		report.Notes[0] != "The gate's result said 0, its exit status 4; the status counts." {
		t.Errorf("got %+v, %v", report, err)
	}
}

func TestAGateThatSpeaksPlainTextIsUnderstood(t *testing.T) {
	t.Parallel()
	s := newScene(t, `printf 'status: running\n\033[31mred\033[0m\000 \377\n'; echo 'and a warning' >&2; exit 5`)
	report, err := s.Run(t.Context(), pve.Status, nil)
	if want := "status: running\n[31mred[0m �\nand a warning"; err != nil || report.Result.Exit != pve.Failed || report.Result.Text != want {
		t.Errorf("got %q %+v, %v", report.Result.Text, report, err)
	}
	s = newScene(t, `exit 4`)
	if report, err = s.Run(t.Context(), pve.Status, nil); err != nil || report.Result.Text != pve.Refused.Sentence() {
		t.Errorf("got %+v, %v", report.Result, err)
	}
}

func TestAHostWithoutAGate(t *testing.T) {
	t.Parallel()
	for script, want := range map[string]string{
		"exec /no/such/pve-gate": "No pve-gate at the path of the key's forced command on HOST. Install it there, or correct command= in authorized_keys.",
		"exit 126":               "pve-gate on HOST cannot be executed. Check its mode (0755) and that it was built for this machine.",
		"exit 255":               "The forced command on HOST ended with 255, which the gate never does. Check that command= in authorized_keys runs pve-gate itself.",
		"kill -9 $$":             "The gate on HOST was killed (SIGKILL) before it gave a result. Ask status before you change anything.",
	} {
		s := newScene(t, script)
		report, err := s.Run(t.Context(), pve.Cycle, nil)
		gateless, ok := errors.AsType[*pve.NoGate](err)
		if !ok || report.Result.Exit != pve.Broken {
			t.Fatalf("%s: got %+v, %v", script, report, err)
		}
		first, _, _ := strings.Cut(gateless.UserMessage(), "\n")
		if want = strings.ReplaceAll(want, "HOST", "the Proxmox host ("+s.wire.address+")"); first != want || !strings.HasPrefix(report.Result.Text, want) {
			t.Errorf("got  %q\nwant %q", first, want)
		}
		if s.calls() != "cycle" {
			t.Errorf("%s: the gate saw %q", script, s.calls())
		}
	}
}

func TestAGateThatDiesInMidChangeLeavesAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	s := newScene(t, `[ $SSH_ORIGINAL_COMMAND = status ] && { echo '{"result":{"exit":0,"text":"VM 102 is stopped."}}'; exit 0; }
echo '{"op":"c81f","step":"stopped","state":"ok"}'; kill -9 $$`)
	_, err := s.Run(t.Context(), pve.Cycle, nil)
	unknown, ok := errors.AsType[*pve.Unknown](err)
	if !ok || !strings.HasPrefix(unknown.UserMessage(), "Outcome of cycle unknown: the gate died (SIGKILL) after step `stopped` of op c81f.\nstatus now says: VM 102 is stopped.\n") {
		t.Errorf("got %v", err)
	}
}

func TestAGateThatCannotEndIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	s := newScene(t, `echo '{"result":{"exit":4,"text":"not provably dead"}}'; hold`)
	began := time.Now()
	report, err := s.Run(t.Context(), pve.Cycle, nil)
	if err != nil || report.Result.Exit != pve.Refused || strings.Join(report.Notes, "") != "The gate gave its result but did not end." {
		t.Errorf("got %+v, %v", report, err)
	}
	if took := time.Since(began); took > time.Minute { // a cycle would have more than seven
		t.Errorf("it took %s", took)
	}
}

func TestWhatOverrunsIsLeftOutAndSaid(t *testing.T) {
	t.Parallel()
	s := newScene(t, `file() { printf '{"op":"c81f","step":"forensics","state":"ok","name":"%s","type":"text/plain","data":"' $1; head -c $2 /dev/zero | tr '\0' A; echo '"}'; }
file one 1000000; file two 1000000; file three 1000000; file small 4; file long 2000000
head -c 3000000 /dev/zero | tr '\0' x >&2
echo '{"result":{"exit":0,"text":"done"}}'`)
	report, err := s.Run(t.Context(), pve.Forensics, nil)
	if err != nil || report.Result.Text != "done" {
		t.Fatalf("got %+v, %v", report.Result, err)
	}
	var names []string
	for _, f := range report.Files {
		names = append(names, f.Name)
	}
	if got := strings.Join(names, " "); got != "one two small" || len(report.Steps) != 0 {
		t.Errorf("files %s, %d steps", got, len(report.Steps))
	}
	want := "The file three (750000 bytes) was left out: the files of one run may have 2097152 bytes.\nLines of more than 1048576 bytes were left out."
	if got := strings.Join(report.Notes, "\n"); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAFloodOfOutputEnds(t *testing.T) {
	t.Parallel()
	s := newScene(t, `head -c 20000000 /dev/zero | tr '\0' '\n'; echo late; exit 5`)
	report, err := s.Run(t.Context(), pve.Status, nil)
	if err != nil || report.Result.Exit != pve.Failed || strings.Join(report.Notes, "") != "Everything after the first 8388608 bytes was left out." {
		t.Errorf("got %+v, %v", report, err)
	}
}
