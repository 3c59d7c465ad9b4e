package evidence

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Report is the file for people: the verdict, what else holds, what is missing, then everything that was found. It holds
// no secrets of qm config and no control characters, and is no larger than an attachment may be.
func (c *Capture) Report() []byte {
	b := &strings.Builder{}
	c.writeHead(b)
	for _, p := range c.Probes {
		_, _ = fmt.Fprintf(b, "\n== %s (%.2f s)\n", p.Name, p.Took.Seconds())
		text := p.Text
		switch p.Name {
		case qmpProbe:
			text = c.Machine.words()
		case agentProbe:
			text = c.Guest.words()
		case threadsProbe:
			text = c.Process.words()
		case screenProbe:
			text = c.Screen.words()
		case tasksProbe:
			text = p.Text + taskWords(c.Tasks)
		case disksProbe:
			text = c.Host.words()
		}
		if text = strings.Trim(text, "\n"); text != "" {
			b.WriteString(text + "\n")
		}
		if p.Missing != "" {
			_, _ = fmt.Fprintf(b, "[missing: %s]\n", p.Missing)
		}
	}
	text := b.String()
	if len(text) > maxReport {
		text = strings.ToValidUTF8(text[:maxReport], "") + "\n[cut here]\n"
	}
	return []byte(text)
}

func (c *Capture) writeHead(b *strings.Builder) {
	_, _ = fmt.Fprintf(b, "VM %d, op %s, for %s, %s, in %.1f s\n\n", c.VMID, c.Op, c.Verb, c.At.Format(time.RFC3339), c.Took.Seconds())
	v := c.Verdict()
	_, _ = fmt.Fprintf(b, "Verdict: %s\n  rule %s, advice: %s\n", v.Text, v.Rule, orNone(string(v.Advice)))
	for _, other := range c.found() {
		if other.Rule != v.Rule && !well(other.Rule) {
			_, _ = fmt.Fprintf(b, "  also %s: %s\n", other.Rule, other.short().Text)
		}
	}
	for _, remark := range c.remarks() {
		b.WriteString("  note: " + remark + "\n")
	}
	missing, asked := c.Missing()
	_, _ = fmt.Fprintf(b, "%d of %d probes answered", asked-len(missing), asked)
	if len(missing) > 0 {
		b.WriteString("; missing: " + strings.Join(missing, ", "))
	}
	b.WriteString("\n")
}

func orNone(word string) string {
	if word == "" {
		return "no verb helps"
	}
	return word
}

// trouble are words of a kernel log, in lower case, that are worth a note.
var trouble = []string{
	"i/o error", "blocked for more than", "i/o timeout", "medium error", "out of memory", "oom-kill", "read-only", "-fs error",
	"lockup", "resetting controller", "link is down", "segfault",
}

func troubled(row string) bool {
	row = strings.ToLower(row)
	return slices.ContainsFunc(trouble, func(word string) bool { return strings.Contains(row, word) })
}

var kernelTime = regexp.MustCompile(`^\[ *(\d+)\.\d+\]`)

// remarks are what may matter and is no verdict.
func (c *Capture) remarks() (all []string) {
	if c.Reset > 0 {
		all = append(all, fmt.Sprintf("the guest was reset %s ago, inside the same QEMU", span(c.Reset)))
	}
	if m := c.Machine; m != nil {
		for _, d := range m.Devices {
			if d.Status != "" && d.Status != "ok" {
				all = append(all, fmt.Sprintf("the io-status of %s is %s", d.Name, d.Status))
			}
			if d.Throttle != "" {
				known := ""
				if m.faulty() {
					known = "; throttled disks can lock up before QEMU 10.2.1 (qemu-project/qemu issue 3144)"
				}
				all = append(all, fmt.Sprintf("%s is throttled: %s%s", d.Name, d.Throttle, known))
			}
		}
	}
	if p := c.Process; p != nil {
		for _, t := range p.stuck() {
			all = append(all, fmt.Sprintf("thread %d (%s) did nothing but wait in D for %.1f s, in %s", t.ID, t.Name, p.Window.Seconds(), t.Where))
		}
	}
	for _, name := range c.Host.stalled() {
		all = append(all, fmt.Sprintf("disk %s of the host has requests and did none for %.1f s", name, c.Host.Window.Seconds()))
	}
	return append(all, c.kernelTrouble()...)
}

// kernelTrouble are the last lines of the host's kernel log that tell of trouble in the last 15 minutes.
func (c *Capture) kernelTrouble() (all []string) {
	for line := range strings.Lines(c.text(kernelProbe)) {
		at := kernelTime.FindStringSubmatch(line)
		if at == nil || !troubled(line) {
			continue
		}
		seconds, err := strconv.ParseFloat(at[1], 64)
		if err == nil && c.Host.Up.Seconds()-seconds < 15*60 {
			all = append(all, "host's kernel: "+short(strings.TrimSpace(line), 160))
		}
	}
	return all[max(0, len(all)-5):]
}

func (m *Machine) words() string {
	if m == nil {
		return ""
	}
	b := &strings.Builder{}
	switch {
	case m.Absent:
		b.WriteString("nobody listens on its socket\n")
	case m.Silent > 0:
		_, _ = fmt.Fprintf(b, "no answer in %d tries, %.1f s\n", m.Tries, m.Silent.Seconds())
	}
	if m.Broke != nil {
		_, _ = fmt.Fprintf(b, "answered %s, then no answer to %s, %d tries, %.1f s; a greeting after that: %t\n",
			m.Broke.Answered, m.Broke.At, m.Tries, m.Broke.Waited.Seconds(), !m.Broke.Deaf)
	}
	if m.Status != "" {
		_, _ = fmt.Fprintf(b, "state %s, QEMU %s, port of the guest's agent: %s\n", m.Status, m.Version, orUnknown(m.Port))
	}
	for _, d := range m.Devices {
		_, _ = fmt.Fprintf(b, "disk %s: io-status %s", d.Name, orNot(d.Status))
		if d.Throttle != "" {
			b.WriteString(", throttled: " + d.Throttle)
		}
		b.WriteString("\n")
	}
	m.writeCounters(b)
	for _, q := range m.Queues {
		_, _ = fmt.Fprintf(b, "queue %d of %s: %s waiting in QEMU\n", q.Number, q.Device, count(q.Waiting, "request"))
	}
	for _, j := range m.Jobs {
		_, _ = fmt.Fprintf(b, "job %s on %s: %s, %d of %d\n", j.Type, j.Device, j.Status, j.Offset, j.Len)
	}
	if len(m.CPUs) > 0 {
		_, _ = fmt.Fprintf(b, "threads of CPUs %v, of iothreads %v\n", m.CPUs, m.IOThreads)
	}
	for _, no := range m.Refused {
		b.WriteString("refused: " + no + "\n")
	}
	return b.String()
}

func orUnknown(word string) string {
	if word == "" {
		return "unknown"
	}
	return word
}

func orNot(word string) string {
	if word == "" {
		return "not kept"
	}
	return word
}

func (m *Machine) writeCounters(b *strings.Builder) {
	if len(m.First) == 0 {
		return
	}
	latest, over := m.Last, fmt.Sprintf("over %.2f s", m.Window.Seconds())
	if latest == nil {
		latest, over = m.First, "once"
	}
	_, _ = fmt.Fprintf(b, "block counters, %s:\n", over)
	for _, now := range latest {
		then := now
		if i := slices.IndexFunc(m.First, func(f Counters) bool { return f.Device == now.Device }); i >= 0 {
			then = m.First[i]
		}
		last := "never"
		if now.Idle >= 0 {
			last = fmt.Sprintf("%.1f s ago", now.Idle.Seconds())
		}
		_, _ = fmt.Fprintf(b, "  %-12s requests %d (%+d), bytes read %d (%+d), written %d (%+d), failed %d (%+d), last I/O %s\n", now.Device,
			now.Requests, now.Requests-then.Requests, now.ReadBytes, now.ReadBytes-then.ReadBytes,
			now.WrittenBytes, now.WrittenBytes-then.WrittenBytes, now.Failed, now.Failed-then.Failed, last)
	}
}

func (g *Guest) words() string {
	switch {
	case g == nil:
		return ""
	case g.Absent:
		return "none is configured"
	case g.Mute:
		return "not waited for: no agent has its port open in the guest, or the guest does not run"
	case !g.Answered:
		return fmt.Sprintf("silent for %.1f s", g.Silent.Seconds())
	}
	b := &strings.Builder{}
	_, _ = fmt.Fprintf(b, "answers; file systems frozen: %t\n", g.Frozen)
	latest, over := g.Last, fmt.Sprintf("over %.2f s", g.Window.Seconds())
	if latest == nil {
		latest, over = g.First, "once"
	}
	for _, now := range latest {
		then := now
		if i := slices.IndexFunc(g.First, func(f GuestDisk) bool { return f.Name == now.Name }); i >= 0 {
			then = g.First[i]
		}
		_, _ = fmt.Fprintf(b, "  %-12s waiting %d, done %d (%+d), busy %.2f s (%+.2f), %s\n", now.Name, now.Waiting, now.Done, now.Done-then.Done,
			now.Busy.Seconds(), (now.Busy - then.Busy).Seconds(), over)
	}
	if g.More > 0 {
		_, _ = fmt.Fprintf(b, "  and %s that nobody looked at\n", count(int64(g.More), "disk"))
	}
	return b.String()
}

func (p *Process) words() string {
	if p == nil {
		return ""
	}
	b := &strings.Builder{}
	_, _ = fmt.Fprintf(b, "pid %d, up %s, state %s; threads over %.2f s:\n", p.Pid, span(p.Age), p.State, p.Window.Seconds())
	stuck := p.stuck()
	for _, t := range p.newest() {
		used := "     -"
		if share := p.busy([]int{t.ID}); len(share) > 0 {
			used = fmt.Sprintf("%5.1f%%", 100*share[0])
		}
		hangs := ""
		if slices.ContainsFunc(stuck, func(s Thread) bool { return s.ID == t.ID }) {
			hangs = "  HANGS"
		}
		_, _ = fmt.Fprintf(b, "  %-8d %s %s %-16s %s%s\n", t.ID, t.State, used, t.Name, t.Where, hangs)
	}
	return b.String()
}

func (s *Screen) words() string {
	switch {
	case s == nil:
		return ""
	case s.Blank:
		return "blank: all of one colour"
	case len(s.Text) == 0:
		return "a picture without text that can be read; see the PNG"
	}
	return strings.Join(s.Text, "\n")
}

func taskWords(tasks []Task) string {
	b := &strings.Builder{}
	for _, t := range tasks {
		_, _ = fmt.Fprintf(b, "%s %s by %s: %s\n%s\n%s\n", t.Began.Format(time.RFC3339), t.Type, t.User, orRunning(t.End), t.UPID,
			indent(t.Log))
	}
	return b.String()
}

func orRunning(end string) string {
	if end == "" {
		return "not ended"
	}
	return end
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ")
}

func (h *Host) words() string {
	b := &strings.Builder{}
	for _, now := range h.Last {
		then := now
		if i := slices.IndexFunc(h.First, func(f HostDisk) bool { return f.Name == now.Name }); i >= 0 {
			then = h.First[i]
		}
		busy := 0.0
		if h.Window > 0 {
			busy = 100 * float64(now.Busy-then.Busy) / float64(h.Window)
		}
		_, _ = fmt.Fprintf(b, "  %-30s waiting %d, done %d (%+d), busy %.0f %% of %.2f s\n", now.Name, now.Waiting, now.Done, now.Done-then.Done,
			busy, h.Window.Seconds())
	}
	return b.String()
}
