package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"bgbot/pve/qmp"
)

// The time limits of the real qm, from the source of qemu-server 9.2; quit's is that of versions before 2026-06-29.
const (
	qmLockLimit  = 10 * time.Second
	qmQuitLimit  = 5 * time.Second
	qmStopLimit  = 60 * time.Second
	qmTermLimit  = 10 * time.Second
	qmPoll       = 100 * time.Millisecond
	qmHang       = time.Hour
	qmFailed     = 255 // every failure of qm, and ssh's own code for a broken connection
	qmStartLimit = 30 * time.Second
)

// qm is one call of the stand-in for Proxmox's qm: its words, its exit codes, its lock and its blind spots.
type qm struct {
	*state
	vm   int
	args []string // after the VM's number
}

func qmMain(args []string) int {
	s, err := home(args)
	if err != nil {
		return complain(qmFailed, err)
	}
	if err := runQM(context.Background(), s, args[1:]); err != nil {
		return complain(qmFailed, err)
	}
	return 0
}

func runQM(ctx context.Context, s *state, args []string) error {
	if s.fault("qm-hang") {
		select {
		case <-time.After(qmHang):
		case <-gone(s):
		}
		return errors.New("interrupted")
	}
	if len(args) > 1 && args[0] == "guest" { // qm guest cmd 102 ping
		args = append([]string{"agent"}, args[2:]...)
	}
	if len(args) < 2 {
		return errors.New("ERROR: missing VM ID or command")
	}
	vm, err := strconv.Atoi(args[1])
	if err != nil {
		return fmt.Errorf("400 Parameter verification failed.\nvmid: type check ('integer') failed - got '%s'", args[1])
	}
	q := &qm{state: s, vm: vm, args: args[2:]}
	switch args[0] {
	case "status":
		return q.status(ctx)
	case "config":
		return q.print(false)
	case "pending":
		return q.print(true)
	case "start":
		return q.change(func(c config) error { return q.start(ctx, c) })
	case "stop", "shutdown":
		return q.change(func(c config) error { return q.stop(ctx, c) })
	case "reset":
		return q.change(func(c config) error { return q.reset(ctx, c) })
	case "agent":
		return q.agent(ctx)
	case "unlock":
		return q.change(func(c config) error { delete(c, "lock"); return q.write(c) })
	default:
		return fmt.Errorf("ERROR: unknown command 'qm %s'", args[0])
	}
}

func gone(s *state) <-chan struct{} {
	c := make(chan struct{})
	go func() { // ends with the process at the latest
		_ = ownerGone(s)
		close(c)
	}()
	return c
}

// haMain is `ha-manager config`: the resources that HA looks after.
func haMain(args []string) int {
	s, err := home(args)
	if err != nil {
		return complain(qmFailed, err)
	}
	if s.fault("ha") {
		fmt.Printf("vm:%d\n\tstate started\n\n", vmid)
	}
	return 0
}

// config is a VM's configuration without its sections.
type config map[string]string

func (q *qm) read() (config, error) {
	data, err := os.ReadFile(q.confFile(q.vm))
	if err != nil {
		return nil, fmt.Errorf("Configuration file 'nodes/lab/qemu-server/%d.conf' does not exist", q.vm) //nolint:staticcheck // qm's words
	}
	c := config{}
	for line := range strings.SplitSeq(string(data), "\n") {
		if k, v, ok := strings.Cut(line, ": "); ok {
			c[k] = v
		}
	}
	return c, nil
}

func (q *qm) write(c config) error {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&b, "%s: %s\n", k, c[k])
	}
	return os.WriteFile(q.confFile(q.vm), []byte(b.String()), 0o600)
}

func (q *qm) print(pending bool) error {
	c, err := q.read()
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(c)) {
		if pending {
			fmt.Print("cur ")
		}
		fmt.Printf("%s: %s\n", k, c[k])
	}
	return nil
}

// change holds the VM's lock while f runs.
func (q *qm) change(f func(config) error) error {
	path := q.path("lock", fmt.Sprintf("lock-%d.conf", q.vm))
	lock, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	told, end := false, time.Now().Add(qmLockLimit)
	for unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		if !told {
			fmt.Fprintln(os.Stderr, "trying to acquire lock...")
			told = true
		}
		if time.Now().After(end) {
			return fmt.Errorf("can't lock file '%s' - got timeout", path)
		}
		<-time.After(qmPoll)
	}
	if told {
		fmt.Fprintln(os.Stderr, " OK")
	}
	c, err := q.read()
	if err != nil {
		return err
	}
	return f(c)
}

// free refuses what the configuration's lock forbids.
func (q *qm) free(c config) error {
	if c["lock"] != "" && !slices.Contains(q.args, "--skiplock") {
		return fmt.Errorf("VM is locked (%s)", c["lock"])
	}
	return nil
}

// monitor runs one QMP command with qm's words for its failures.
func (q *qm) monitor(ctx context.Context, command string, limit time.Duration, to any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, err := qmp.Dial(ctx, q.runFile(q.vm, "qmp"))
	if err == nil {
		err = m.Do(ctx, command, nil, to)
		_ = m.Close()
	}
	if err != nil {
		return fmt.Errorf("VM %d qmp command '%s' failed - %s", q.vm, command, words(err))
	}
	return nil
}

// words are qm's for what the conversation with QEMU met.
func words(err error) string {
	refused, ok := errors.AsType[*qmp.CommandError](err)
	switch {
	case ok:
		return refused.Desc
	case errors.Is(err, qmp.ErrSilent):
		return "got timeout"
	case errors.Is(err, qmp.ErrGone):
		return "client closed connection"
	default:
		return err.Error()
	}
}

// status falls back to the state of the process when QMP is silent, as the real one does: it cannot see a wedge.
func (q *qm) status(ctx context.Context) error {
	c, err := q.read()
	if err != nil {
		return err
	}
	lines := map[string]string{"vmid": strconv.Itoa(q.vm), "name": c["name"], "status": "stopped", "qmpstatus": "stopped"}
	if c["lock"] != "" {
		lines["lock"] = c["lock"]
	}
	if p := openVM(q.state, q.vm); p != nil {
		defer p.close()
		lines["status"], lines["qmpstatus"], lines["pid"] = "running", "running", strconv.Itoa(p.pid)
		var answer struct{ Status string }
		if q.monitor(ctx, "query-status", 3*time.Second, &answer) == nil {
			lines["qmpstatus"], lines["running-qemu"] = answer.Status, "9.2.0"
		}
	}
	if !slices.Contains(q.args, "--verbose") {
		fmt.Println("status:", lines["qmpstatus"])
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(lines)) {
		fmt.Printf("%s: %s\n", k, lines[k])
	}
	return nil
}

func (q *qm) reset(ctx context.Context, c config) error {
	if err := q.free(c); err != nil {
		return err
	}
	p := openVM(q.state, q.vm)
	if p == nil {
		return fmt.Errorf("VM %d not running", q.vm)
	}
	defer p.close()
	return q.monitor(ctx, "system_reset", 5*time.Second, nil)
}

func (q *qm) agent(ctx context.Context) error {
	if _, err := q.read(); err != nil {
		return err
	}
	p := openVM(q.state, q.vm)
	if p == nil {
		return fmt.Errorf("VM %d is not running", q.vm)
	}
	defer p.close()
	if len(q.args) == 0 || q.args[0] != "ping" {
		return errors.New("400 Parameter verification failed.\ncommand: only 'ping' works in this lab")
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	a, err := qmp.DialAgent(ctx, q.runFile(q.vm, "qga"))
	if err == nil {
		err = a.Do(ctx, "guest-ping", nil, nil)
		_ = a.Close()
	}
	if err != nil {
		return errors.New("QEMU guest agent is not running")
	}
	return nil
}
