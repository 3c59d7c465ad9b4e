package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"bgbot/pve"
	"bgbot/pve/gate/host"
)

const (
	captureLimit = 9 * time.Second // for everything together
	keptInRun    = 5               // of a kind
	keptOnDisk   = 30
)

// probe is one question to the host. Each has its own deadline, and one that hangs is left behind.
type probe struct {
	name string
	ask  func(ctx context.Context) (string, error)
}

// probes are all questions, in the order of the report.
func (g *gate) probes() []probe {
	return []probe{
		g.qmProbe(6*time.Second, "status", "--verbose"),
		g.qmProbe(6*time.Second, "config"),
		g.qmProbe(6*time.Second, "pending"),
		{"QEMU and its threads", func(context.Context) (string, error) { return g.describeQEMU(), nil }},
		fileProbe("/proc/loadavg"),
		fileProbe("/proc/pressure/cpu"),
		fileProbe("/proc/pressure/io"),
		fileProbe("/proc/pressure/memory"),
		fileProbe("/proc/meminfo"),
	}
}

// evidence is the verb forensics.
func (g *gate) evidence(ctx context.Context) error {
	file, missing, total := g.capture(ctx, "")
	text := fmt.Sprintf("Forensics of VM %d: %d of %d probes answered.", g.vmid, total-len(missing), total)
	if len(missing) > 0 {
		text += "\nNo answer: " + strings.Join(missing, ", ")
	}
	if !g.tell.jsonl {
		text += "\n\n" + string(file.Data)
	}
	return ended(pve.Done, "%s", text)
}

// capture gathers the evidence and hands it over. It is bounded, and nothing that goes wrong in it stops a change.
func (g *gate) capture(ctx context.Context, when string) (file pve.File, missing []string, total int) {
	g.step("forensics", pve.StepStart, "at most %s", captureLimit)
	ctx, cancel := context.WithTimeout(ctx, captureLimit)
	defer cancel()
	probes := g.probes()
	text := &strings.Builder{}
	_, _ = fmt.Fprintf(text, "VM %d, op %s, %s, for %s\n", g.vmid, g.op, time.Now().UTC().Format(time.RFC3339), g.verb)
	for i, a := range askAll(ctx, probes) {
		answer := redact(a.text)
		if a.err != nil {
			answer = strings.TrimSpace(answer + "\n[missing: " + a.err.Error() + "]")
			missing = append(missing, probes[i].name)
		}
		_, _ = fmt.Fprintf(text, "\n== %s\n%s\n", probes[i].name, strings.TrimSpace(answer))
	}
	file = pve.File{Name: "forensics-" + g.op + ".txt", Type: "text/plain; charset=utf-8", Data: []byte(text.String())}
	g.tell.file("forensics", file)
	where := g.keep(file)
	state, words := pve.StepOK, fmt.Sprintf("%d of %d probes answered, %s", len(probes)-len(missing), len(probes), where)
	if len(missing) == len(probes) {
		state = pve.StepFail
	}
	g.step("forensics", state, "%s", words)
	return file, missing, len(probes)
}

type answer struct {
	text string
	err  error
}

// askAll asks all at once and leaves behind whoever does not answer in time.
func askAll(ctx context.Context, probes []probe) []answer {
	var mu sync.Mutex
	answers := make([]answer, len(probes))
	for i := range answers {
		answers[i].err = errors.New("no answer in time")
	}
	var wg sync.WaitGroup
	for i, p := range probes {
		wg.Go(func() {
			text, err := p.ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			answers[i] = answer{text, err}
		})
	}
	all := make(chan struct{})
	go func() {
		wg.Wait()
		close(all)
	}()
	select {
	case <-all:
	case <-ctx.Done():
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(answers)
}

func (g *gate) qmProbe(limit time.Duration, verb string, args ...string) probe {
	return probe{"qm " + verb, func(ctx context.Context) (string, error) {
		s := g.qm(ctx, limit, verb, args...)
		if !s.OK() {
			return s.Out, errors.New(s.Words())
		}
		return s.All(), nil
	}}
}

func fileProbe(path string) probe {
	return probe{path, func(context.Context) (string, error) {
		text, err := host.Within(host.ProcLimit, func() ([]byte, error) { return os.ReadFile(path) })
		return string(text), err
	}}
}

func (g *gate) describeQEMU() string {
	q := g.identify()
	if q == nil {
		return "none found"
	}
	defer q.close()
	return fmt.Sprintf("pid %d, up %s%s", q.Pid, span(q.Age()), lines(host.Threads(q.Pid)))
}

// secret matches the lines of qm config and qm pending that may hold secrets, and the free text in which people note them.
var secret = regexp.MustCompile(`(?m)^((?:cur |new )?(?:cipassword|sshkeys|args|description)): .*$`)

func redact(text string) string { return secret.ReplaceAllString(text, "$1: [redacted]") }

// keep stores the evidence on the host: in the run folder, which is memory, then on the disk, which may be stuck. What
// was seen before a change is a kind of its own, so that no number of captures on demand pushes it out.
func (g *gate) keep(f pve.File) string {
	kind := fmt.Sprintf("%d-", g.vmid)
	if g.verb.Changes() {
		kind += "change-"
	}
	inRun := filepath.Join(g.runDir, "pve-gate", kind+f.Name)
	where := "kept in " + inRun
	if err := store(inRun, f.Data, kind, keptInRun); err != nil {
		where = "not kept in the run folder: " + err.Error()
	}
	onDisk := filepath.Join(g.stateDir, filepath.Base(inRun))
	if g.log.stuck {
		return where
	}
	_, err := host.Within(diskLimit, func() (struct{}, error) { return struct{}{}, store(onDisk, f.Data, kind, keptOnDisk) })
	if err != nil {
		g.log.stuck = true
		return where + ", not on disk: " + err.Error()
	}
	return "kept in " + onDisk
}

// store writes a file and removes all but the newest ones of its kind.
func store(path string, data []byte, kind string, newest int) error {
	if err := replace(path, data); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), kind+"forensics-*"))
	if err != nil || len(names) <= newest {
		return err
	}
	age := func(name string) int64 {
		info, err := os.Stat(name)
		if err != nil {
			return 0
		}
		return info.ModTime().UnixNano()
	}
	slices.SortFunc(names, func(a, b string) int { return int(min(1, max(-1, age(a)-age(b)))) })
	for _, old := range names[:len(names)-newest] {
		_ = os.Remove(old)
	}
	return nil
}
