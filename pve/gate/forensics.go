package gate

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/evidence"
	"bgbot/pve/gate/host"
)

const (
	keptInRun  = 5 // captures of a kind
	keptOnDisk = 30
)

// evidence is the verb forensics.
func (g *gate) evidence() error {
	c, report := g.capture("")
	missing, asked := c.Missing()
	text := fmt.Sprintf("%s\nForensics of VM %d: %d of %d probes answered.", g.seen.Verdict, g.vmid, asked-len(missing), asked)
	if len(missing) > 0 {
		text += "\nNo answer: " + strings.Join(missing, ", ")
	}
	if !g.tell.jsonl {
		text += "\n\n" + string(report)
	}
	return ended(pve.Done, "%s", text)
}

// capture gathers the evidence and hands it over, then keeps it. It is bounded, in a time of its own, and nothing that
// goes wrong in it stops a change. A second capture of one run says when it was made.
func (g *gate) capture(when string) (*evidence.Capture, []byte) {
	g.step("forensics", pve.StepStart, "10 s at most")
	ctx, cancel := context.WithTimeout(context.Background(), captureLimit)
	defer cancel()
	q, _ := g.identify(ctx)
	if q != nil {
		defer q.close()
	}
	c := evidence.Take(ctx, g.subject(q), g.op, g.verb)
	name := g.op
	if when != "" {
		name += "-" + when
	}
	w := wordsOf(c)
	files := []pve.File{{Name: "forensics-" + name + ".txt", Type: "text/plain; charset=utf-8", Data: w.report}}
	if picture := c.PNG(); picture != nil {
		files = append(files, pve.File{Name: "screen-" + name + ".png", Type: "image/png", Data: picture})
	}
	for _, f := range files {
		g.tell.file("forensics", f)
	}
	var places, where []string
	for _, f := range files {
		if name, place := g.keep(f); !slices.Contains(places, place) {
			places = append(places, place)
			where = append(where, name+" "+place) // a narrow screen cuts the folder, which may be long, and not the name
		}
	}
	missing, asked := c.Missing()
	state := pve.StepOK
	if len(missing) == asked {
		state = pve.StepFail
	}
	without := ""
	if 0 < len(missing) && len(missing) < 3 { // more are in the report
		without = " (without " + strings.Join(missing, ", ") + ")"
	}
	g.step("forensics", state, "%d of %d probes answered%s, %s", asked-len(missing), asked, without, strings.Join(where, "; "))
	g.heldBy = c.Lock()
	g.judge(w.verdict)
	g.seen.Forensics = c.At
	g.step("verdict", pve.StepOK, "%s", g.seen.Verdict)
	return c, files[0].Data
}

const wordsLimit = 2 * time.Second // for the verdict and the report

// words are what a capture comes to.
type words struct {
	verdict evidence.Verdict
	report  []byte
}

// wordsOf draws them. Much of a capture is the word of a guest, which may be up to no good: whatever it makes of our own
// rules, a change goes on.
func wordsOf(c *evidence.Capture) words {
	w, err := host.Within(wordsLimit, func() (w words, err error) {
		defer func() {
			if broken := recover(); broken != nil {
				err = fmt.Errorf("the rules broke: %v", broken)
			}
		}()
		return words{c.Verdict(), c.Report()}, nil
	})
	if err != nil {
		text := "No verdict: the evidence could not be read (" + firstLine(err.Error()) + ")"
		return words{evidence.Verdict{Text: host.Cut(printable(text), 110)}, []byte(text + "\n")}
	}
	return w
}

// judge notes what the evidence says.
func (g *gate) judge(v evidence.Verdict) { g.seen.Verdict, g.seen.Advice = v.Text, v.Advice }

// subject is the VM as it is now, with its QEMU, which is nil if none was found.
func (g *gate) subject(q *qemu) evidence.Subject {
	s := evidence.Subject{
		VMID: g.vmid, Run: filepath.Dir(g.qemuFile("qmp")), Scope: g.scope(), QM: g.qmPath, Tasks: g.tasks(), Mark: g.mark,
	}
	if q != nil {
		s.QEMU, s.Reset = q.Process, g.lastReset(q)
		if q.Scope != "" {
			s.Scope = q.Scope
		}
	}
	return s
}

// newestCapture is when the newest kept evidence was taken; zero if there is none. The run folder is memory, so the
// answer cannot hang; after a reboot the disk knows.
func (g *gate) newestCapture() time.Time {
	find := func(folder string) (newest time.Time) {
		names, _ := filepath.Glob(filepath.Join(folder, fmt.Sprintf("%d-*forensics-*", g.vmid)))
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.ModTime().After(newest) {
				newest = info.ModTime()
			}
		}
		return newest
	}
	if at := find(filepath.Join(g.runDir, "pve-gate")); !at.IsZero() {
		return at.UTC()
	}
	at, _ := host.Within(diskLimit, func() (time.Time, error) { return find(g.stateDir), nil })
	return at.UTC()
}

// keep stores the evidence on the host: in the run folder, which is memory, then on the disk, which may be stuck. What
// was seen before a change is a kind of its own, so that no number of captures on demand pushes it out.
func (g *gate) keep(f pve.File) (name, place string) {
	kind := fmt.Sprintf("%d-", g.vmid)
	if g.verb.Changes() {
		kind += "change-"
	}
	what, _, _ := strings.Cut(f.Name, "-") // forensics or screen
	name = kind + f.Name
	inRun := filepath.Join(g.runDir, "pve-gate", name)
	place = "kept in " + filepath.Dir(inRun)
	if err := store(inRun, f.Data, kind+what, keptInRun); err != nil {
		place = "not kept in the run folder: " + err.Error()
	}
	onDisk := filepath.Join(g.stateDir, name)
	if g.log.stuck {
		return name, place
	}
	_, err := host.Within(diskLimit, func() (struct{}, error) { return struct{}{}, store(onDisk, f.Data, kind+what, keptOnDisk) })
	if err != nil {
		g.log.stuck = true
		return name, place + ", not on disk: " + err.Error()
	}
	return name, "kept in " + g.stateDir
}

// store writes a file and removes all but the newest ones of its kind. The file itself stays: by a clock that was set back
// it may be the oldest.
func store(path string, data []byte, kind string, newest int) error {
	if err := replace(path, data); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), kind+"-*"))
	if err != nil || len(names) <= newest {
		return err
	}
	age := func(name string) int64 {
		if name == path {
			return math.MaxInt64
		}
		info, err := os.Stat(name)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(age(a), age(b)) })
	for _, old := range names[:len(names)-newest] {
		_ = os.Remove(old)
	}
	return nil
}
