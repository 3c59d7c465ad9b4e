package agentrun

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	writeLimit = 5 * time.Second // the CLI reads its stdin at all times
	stderrTail = 4 << 10
	afterExit  = time.Second // until the pipes of a dead CLI are closed, whoever holds their other end
)

// process is one running CLI. Exactly one goroutine at a time reads lines: a turn, or the keeper of an idle process.
// lines is closed after the process has ended and all it said was delivered.
type process struct {
	session string
	model   string
	resumed bool
	kin     kin
	swept   *tally // every stray ended so far; touched by the reader of lines only
	secret  string
	log     *slog.Logger

	lines chan any
	exit  error // of the CLI; valid once lines is closed

	release func()
	seen    map[string]bool // the ids of messages written to this process
	used    bool            // it has had a turn
	spent   bool            // its budget is used up: it answers nothing more
	undead  bool            // it was killed and does not die

	mu  sync.Mutex // guards in and tail
	in  *os.File
	err tail

	wg sync.WaitGroup
}

// spec is how a process is started.
type spec struct {
	path    string
	rules   string // of the cage
	args    []string
	env     []string
	dir     string
	session string
	model   string
	resume  bool
	secret  string
	kin     kin
	release func()
	log     *slog.Logger
}

// spawn starts the CLI. The caller reads lines until they are closed, or ends it, and then has the runner
// bury it.
func spawn(s spec) (*process, error) {
	p := &process{
		session: s.session, model: s.model, resumed: s.resume, kin: s.kin, swept: newTally(), secret: s.secret, log: s.log,
		lines: make(chan any), release: s.release, seen: map[string]bool{},
	}
	var pipes [4][2]*os.File // stdin, stdout, stderr, the secret
	for i := range pipes {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(pipes)
			return nil, err
		}
		pipes[i] = [2]*os.File{r, w}
	}
	cmd := exec.Command("/proc/self/exe") //nolint:noctx // it outlives the turn; the runner ends it
	cmd.Args = append([]string{shimName, s.rules, s.path}, s.args...)
	cmd.Env, cmd.Dir = s.env, s.dir
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = pipes[0][0], pipes[1][1], pipes[2][1], []*os.File{pipes[3][0]}
	// A bot that dies takes the CLI with it; without this the turn would go on (measured with CLI 2.1.330). A session of
	// its own keeps the terminal's Ctrl-C from it: it is the bot that says when to stop.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setsid: true}
	if _, err := pipes[3][1].WriteString(s.secret); err != nil { // fits in the pipe
		closeAll(pipes)
		return nil, err
	}
	p.in = pipes[0][1]
	started, exited := make(chan error), make(chan struct{})
	p.wg.Go(func() {
		// The parent-death signal hangs on the thread that forks (prctl(2)), so the thread must live as long as the
		// child. It is never unlocked, and ends with this goroutine.
		runtime.LockOSThread()
		err := bear(cmd)
		started <- err
		if err == nil {
			p.exit = cmd.Wait()
			bereave(cmd)
		}
		close(exited)
	})
	err := <-started
	for _, f := range []*os.File{pipes[0][0], pipes[1][1], pipes[2][1], pipes[3][0], pipes[3][1]} {
		_ = f.Close()
	}
	if err != nil {
		p.wg.Wait()
		closeAll(pipes)
		return nil, err
	}
	p.kin.root, _ = lookup(cmd.Process.Pid)
	p.follow(pipes[1][0], pipes[2][0], exited)
	return p, nil
}

func closeAll(pipes [4][2]*os.File) {
	for _, pair := range pipes {
		for _, f := range pair {
			if f != nil {
				_ = f.Close()
			}
		}
	}
}

// follow starts the readers of both outputs, and closes lines when all is said.
func (p *process) follow(stdout, stderr *os.File, exited <-chan struct{}) {
	var readers sync.WaitGroup
	readers.Go(func() { p.readLines(stdout) })
	readers.Go(func() { p.readErrors(stderr) })
	p.wg.Go(func() {
		<-exited
		for _, f := range []*os.File{stdout, stderr} {
			_ = f.SetReadDeadline(time.Now().Add(afterExit))
		}
		readers.Wait()
		_, _ = stdout.Close(), stderr.Close()
		close(p.lines)
	})
}

// readLines delivers lines of any length; 10 MB in one line is legal.
func (p *process) readLines(from io.Reader) {
	buf := bufio.NewReaderSize(from, 64<<10)
	for {
		line, err := buf.ReadBytes('\n')
		if line = bytes.TrimSpace(line); len(line) > 0 {
			m, bad := decode(line)
			if bad != nil {
				p.log.Warn("the claude CLI wrote a line that cannot be read", "error", bad, "bytes", len(line))
			}
			if m != nil {
				p.lines <- m
			}
		}
		if err != nil {
			return
		}
	}
}

func (p *process) readErrors(from io.Reader) {
	buf := bufio.NewReader(from)
	for {
		line, err := buf.ReadString('\n')
		if text := strings.TrimSpace(mask(clean(line), p.secret)); text != "" {
			p.mu.Lock()
			p.err.add(text)
			p.mu.Unlock()
			p.log.Info("the claude CLI said on stderr", "text", brief(text))
		}
		if err != nil {
			return
		}
	}
}

// stderr is the end of what the CLI said there.
func (p *process) stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.err)
}

// send writes one line. It fails if the CLI has ended or does not read.
func (p *process) send(m any) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in == nil {
		return os.ErrClosed
	}
	if err := p.in.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return err
	}
	_, err = p.in.Write(append(line, '\n'))
	return err
}

// finish closes stdin: the CLI ends when it has nothing more to do.
func (p *process) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in != nil {
		_ = p.in.Close()
		p.in = nil
	}
}

func (p *process) signal(sig syscall.Signal) {
	if p.kin.root.pid == 0 {
		return // it has ended
	}
	if err := p.kin.root.signal(sig); err != nil && !errors.Is(err, unix.ESRCH) {
		p.log.Error("the claude CLI cannot be signalled", "error", err, "pid", p.kin.root.pid)
	}
}

// drain reads lines until they are closed or d has passed; false means that the CLI still runs. Every question that
// comes is denied, and each line is shown to see, if any.
func (p *process) drain(d time.Duration, see func(any) (enough bool)) (closed bool) {
	limit := time.NewTimer(d)
	defer limit.Stop()
	for {
		select {
		case m, ok := <-p.lines:
			if !ok {
				return true
			}
			if q, ok := m.(*askLine); ok {
				_ = p.send(sayDeny(q.ID, denyOver)) // it fails only if the CLI has ended
			}
			if see != nil && see(m) {
				return false
			}
		case <-limit.C:
			return false
		}
	}
}

// end makes the CLI end, gently for as long as patience allows, and ends all that it left running. It returns when
// lines are closed, or when the CLI is undead.
func (p *process) end(patience time.Duration) {
	p.finish()
	if p.drain(patience, nil) {
		return
	}
	// SIGINT, not SIGTERM: by version, the latter may leave a running command behind (measured).
	p.signal(syscall.SIGINT)
	if p.drain(patience, nil) {
		return
	}
	p.kill(nil)
}

// bury is called when lines are closed: it ends what the CLI left running and gives back what was prepared for it.
func (p *process) bury() {
	p.finish()
	p.wg.Wait()
	p.kin.root = proc{}
	ctx, cancel := context.WithTimeout(context.Background(), proofLimit)
	defer cancel()
	if p.swept.hunt(ctx, p.kin); len(p.swept.left) > 0 || p.swept.err != nil {
		p.log.Error("processes of an ended claude CLI are still alive", "pids", p.swept.left, "error", p.swept.err)
	}
	p.swept.reap()
	if p.release != nil {
		p.release()
	}
}

// died says in a sentence how the CLI ended, once lines are closed.
func (p *process) died(when string) error {
	how := "exit 0"
	if p.exit != nil {
		how = p.exit.Error()
	}
	reason := fmt.Sprintf("The claude CLI ended %s (%s)", when, strings.Replace(how, "exit status", "exit", 1))
	if text := p.stderr(); text != "" {
		reason += ": " + brief(text)
	}
	return &Ended{Reason: reason + ". The conversation is kept; send a message to go on." + verbsWork}
}

// tail keeps the end of a text.
type tail string

func (t *tail) add(line string) {
	all := string(*t) + line + "\n"
	*t = tail(strings.ToValidUTF8(all[max(0, len(all)-stderrTail):], ""))
}
