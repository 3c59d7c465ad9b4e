package relay

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"bgbot/pve"
)

// told is an error with words for people.
type told string

func (e told) Error() string       { return "inside: " + string(e) }
func (e told) UserMessage() string { return string(e) }

func TestTheAgentRunsAVerbAndReadsWhatHappened(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	key := newKey(t)
	var got pve.Verb
	s.Admit("thread-1", key.PublicKey(), func(_ context.Context, v pve.Verb, step func(pve.Step)) (pve.Report, error) {
		got = v
		step(pve.Step{Step: "forensics", State: pve.StepStart})
		step(pve.Step{Step: "forensics", State: pve.StepOK, Text: "12 s\nin two lines", Name: "forensics.txt"})
		return pve.Report{
			Result: pve.Result{Verb: v, Op: "c81f", Exit: pve.Unverified, Text: "started, but SSH does not answer \x1b[31myet"},
			Notes:  []string{"One file was too big."},
			Files: []pve.File{
				{Name: "forensics.txt", Type: "text/plain", Data: []byte("load 42\xff\n")},
				{Name: "screen.png", Type: "image/png", Data: []byte("\x89PNG")},
			},
		}, nil
	})
	run := shell(t, s, key)
	out, errs, exit := run("ssh pve cycle")
	want := "start forensics\n" +
		"ok    forensics: 12 s\nin two lines (forensics.txt)\n" +
		"started, but SSH does not answer [31myet\n" +
		"One file was too big.\n" +
		"--- forensics.txt ---\nload 42\uFFFD\n--- end of forensics.txt ---\n" +
		"--- screen.png: image/png, 4 bytes, not shown here ---\n"
	if out != want || errs != "" || exit != int(pve.Unverified) || got != pve.Cycle {
		t.Errorf("got %s, exit %d, %q\n%s\nwant exit 6\n%s", got, exit, errs, out, want)
	}
}

func TestStepsArriveAsTheyHappen(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	seen := make(chan struct{})
	client := guestOf(t, s, func(_ context.Context, _ pve.Verb, step func(pve.Step)) (pve.Report, error) {
		step(pve.Step{Step: "stop", State: pve.StepStart})
		wait(t, seen) // the handler ends only after the client has read the step
		return pve.Report{Result: pve.Result{Text: "stopped"}}, nil
	})
	session := newSession(t, client)
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("stop"); err != nil {
		t.Fatal(err)
	}
	line := make([]byte, len("start stop\n"))
	if _, err := out.Read(line); err != nil || string(line) != "start stop\n" {
		t.Errorf("got %q, %v", line, err)
	}
	close(seen)
	if err := session.Wait(); err != nil {
		t.Error(err)
	}
}

func TestEveryOutcomeHasItsExitAndItsWords(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	for _, c := range []struct {
		exit     pve.Exit
		err      error
		wantExit int
		wantOut  string
		wantErrs string
	}{
		{pve.Done, nil, 0, pve.Done.Sentence() + "\n", ""},
		{pve.Busy, nil, 3, pve.Busy.Sentence() + "\n", ""},
		{pve.Broken, nil, 7, pve.Broken.Sentence() + "\n", ""},
		{pve.Rejected, told("The agent may not cycle devvm."), 2, "", "The agent may not cycle devvm.\n"},
		{pve.Done, told("The Proxmox host did not answer."), 7, "", "The Proxmox host did not answer.\n"},
		{pve.Done, errors.New("dial 10.0.0.1: secret"), 7, "", "That failed inside the bot; its log says why.\n"},
	} {
		client := guestOf(t, s, func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) {
			return pve.Report{Result: pve.Result{Exit: c.exit}}, c.err
		})
		session := newSession(t, client)
		var out, errs strings.Builder
		session.Stdout, session.Stderr = &out, &errs
		if got := exit(session.Run("status")); got != c.wantExit || out.String() != c.wantOut || errs.String() != c.wantErrs {
			t.Errorf("%v, %v: got exit %d, %q, %q; want %d, %q, %q",
				c.exit, c.err, got, out.String(), errs.String(), c.wantExit, c.wantOut, c.wantErrs)
		}
	}
}

func TestALongFileIsCutAndSaysSo(t *testing.T) {
	t.Parallel()
	text := fileText(pve.File{Name: "forensics.txt", Data: []byte(strings.Repeat("x", maxText+5))})
	if want := "\n--- forensics.txt is cut here: 24000 of 24005 bytes ---\n"; !strings.HasSuffix(text, want) {
		t.Errorf("it ends with %q", text[len(text)-80:])
	}
}

func TestAClientThatHangsUpEndsAReadButNoChange(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	causes, release := make(chan error, 1), make(chan struct{})
	handler := func(ctx context.Context, v pve.Verb, step func(pve.Step)) (pve.Report, error) {
		step(pve.Step{Step: string(v), State: pve.StepStart})
		select {
		case <-ctx.Done():
		case <-release:
		}
		causes <- context.Cause(ctx)
		return pve.Report{Result: pve.Result{Verb: v}}, ctx.Err()
	}
	hangUp := func(verb string) {
		client := guestOf(t, s, handler)
		session := newSession(t, client)
		out, err := session.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Start(verb); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil { // it runs
			t.Fatal(err)
		}
		_ = client.Close()
	}
	hangUp("forensics")
	if got := wait(t, causes); !errors.Is(got, errHungUp) {
		t.Errorf("the read ended with %v", got)
	}
	hangUp("cycle")
	close(release)
	if got := wait(t, causes); got != nil {
		t.Errorf("the change was told %v", got)
	}
}

func TestAClientThatDoesNotReadHoldsNoChangeUp(t *testing.T) {
	t.Parallel()
	s, _ := serve(t)
	done := make(chan struct{})
	client := guestOf(t, s, func(_ context.Context, _ pve.Verb, step func(pve.Step)) (pve.Report, error) {
		text := strings.Repeat("x", 1<<10)
		for range 8 << 10 { // 8 MiB, four times SSH's window
			step(pve.Step{Step: "stop", State: pve.StepOK, Text: text})
		}
		close(done)
		return pve.Report{}, nil
	})
	session := newSession(t, client)
	if _, err := session.StdoutPipe(); err != nil { // and never read
		t.Fatal(err)
	}
	if err := session.Start("stop"); err != nil {
		t.Fatal(err)
	}
	wait(t, done)
}

func TestTheEndWaitsForAChangeAndItsClientIsTold(t *testing.T) {
	t.Parallel()
	s, stop := serve(t)
	running, release, readEnded := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	changing := guestOf(t, s, func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) {
		close(running)
		<-release
		return pve.Report{Result: pve.Result{Text: "stopped"}}, nil
	})
	reading := guestOf(t, s, func(ctx context.Context, _ pve.Verb, step func(pve.Step)) (pve.Report, error) {
		step(pve.Step{Step: "status", State: pve.StepStart})
		<-ctx.Done()
		readEnded <- context.Cause(ctx)
		return pve.Report{}, nil
	})
	read := newSession(t, reading)
	started, err := read.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := read.Start("status"); err != nil {
		t.Fatal(err)
	}
	if _, err := started.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	session := newSession(t, changing)
	var out strings.Builder
	session.Stdout = &out
	if err := session.Start("stop"); err != nil {
		t.Fatal(err)
	}
	wait(t, running)
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	if got := wait(t, readEnded); got == nil || got.Error() != "the test is over" && got.Error() != "the relay is stopping" { // both at once
		t.Errorf("the read ended with %v", got)
	}
	select {
	case <-stopped:
		t.Fatal("Serve returned while a change was running")
	default:
	}
	close(release)
	if err := session.Wait(); err != nil || out.String() != "stopped\n" {
		t.Errorf("the change's client got %q, %v", out.String(), err)
	}
	_ = changing.Close()
	wait(t, stopped)
}

func TestAVerbThatComesTooLateIsNotBegun(t *testing.T) {
	t.Parallel()
	l := &link{}
	if !l.begin(pve.Stop) {
		t.Fatal("the first verb was refused")
	}
	l.stop() // a change runs, so the client stays
	if l.begin(pve.Start) {
		t.Error("a verb began after the end")
	}
}

// Not parallel: it looks at all goroutines.
func TestTheEndLeavesNothingBehind(t *testing.T) {
	s, stop := serve(t)
	client := guestOf(t, s, func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) { return pve.Report{}, nil })
	rawDial(t, s) // a client that never speaks
	idle := guestOf(t, s, never(t))
	if err := newSession(t, client).Run("status"); err != nil {
		t.Error(err)
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > leaveTime {
		t.Errorf("the end took %s", took)
	}
	if _, err := idle.NewSession(); err == nil {
		t.Error("a connection is still served")
	}
	if _, err := dial(s, newKey(t)); err == nil {
		t.Error("it still listens")
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if strings.Contains(string(stacks), "relay.(*Server)") || strings.Contains(string(stacks), "relay.(*printer)") {
		t.Errorf("a goroutine is left:\n%s", stacks)
	}
}

func BenchmarkStatusThroughSSH(b *testing.B) {
	s, _ := serve(b)
	key := newKey(b)
	s.Admit("thread-1", key.PublicKey(), func(context.Context, pve.Verb, func(pve.Step)) (pve.Report, error) {
		return pve.Report{Result: pve.Result{Text: "running"}}, nil
	})
	run := shell(b, s, key)
	for b.Loop() {
		if out, errs, exit := run("ssh pve status"); out != "running\n" || exit != 0 {
			b.Fatalf("exit %d, %q, %q", exit, out, errs)
		}
	}
}
