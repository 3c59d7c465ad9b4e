package agentrun

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// startLimit is how long the CLI may take to be ready. It needs 0.4 s; eight at once 2.3 s (measured).
const startLimit = 30 * time.Second

const (
	sweepLimit = 10 * time.Second // until what a former bot left is ended
	closeLimit = 10 * time.Second // until a Close that is no longer gentle gives up
	keptDays   = 90               // that a session can be resumed after its last start
	oldSession = keptDays * 24 * time.Hour
)

// Runner runs turns, many at once, each session one at a time. Its methods may be called from many goroutines at once.
type Runner struct {
	cfg        Config
	family     string // the mark of every bot that uses this folder
	id         string // the mark of this one
	startLimit time.Duration
	modes      map[string]os.FileMode // of the private files, at the start
	ctx        context.Context        // the lifetime of all turns
	cancel     context.CancelCauseFunc
	wg         sync.WaitGroup // turns and keepers

	mu       sync.Mutex // guards the rest
	closed   bool
	lock     *os.File
	sessions map[string]*session // those with a turn or a process
	undead   map[int]bool        // pids of CLIs that were killed and do not die
	live     int                 // slots taken, by a process or on its way to one
	line     []*waiter
}

// session is one conversation.
type session struct {
	id    string
	turn  chan struct{} // holds a token while a turn runs: two processes would fork the transcript
	known bool          // it ran here before; the turn's to read and write

	// Guarded by Runner.mu.
	turns  int     // also those in line
	keeper *keeper // of the idle process, if any
	root   proc    // the newest CLI, perhaps ended; guarded by Runner.mu
}

// New checks the configuration. Nothing is started or written. Errors are for a person, and name the key and the mend.
func New(cfg Config) (*Runner, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	// Orphans of a CLI that has died come to us, instead of to init, and can be found.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become subreaper: %w", err)
	}
	// Other processes of our user may not look into our memory, where the keys are. Landlock says the same to the agent's
	// commands; this holds without it, unless we are root.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("hide the memory: %w", err)
	}
	sum := sha256.Sum256([]byte(cfg.Dir))
	family := hex.EncodeToString(sum[:6])
	r := &Runner{
		cfg: cfg, family: family, id: family + "." + rand.Text()[:8], startLimit: startLimit, sessions: map[string]*session{}, undead: map[int]bool{},
		modes: modesOf(cfg.Private),
	}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	if err := r.Caged(); err != nil {
		cfg.Log.Warn("the agent's commands are not held as they should be", "error", err)
	}
	return r, nil
}

// Check says whether the CLI is there and of the pinned version.
func (r *Runner) Check(ctx context.Context) error {
	path, err := r.cfg.locate()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, r.startLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1"}
	cmd.WaitDelay = afterExit
	out, err := cmd.Output()
	if err != nil {
		return &Ended{Reason: fmt.Sprintf("%s --version fails: %s", path, r.cfg.install()), Err: err}
	}
	said := versionLine.FindSubmatch(out)
	switch {
	case said == nil:
		return &Ended{Reason: fmt.Sprintf("%s does not answer like claude; to --version it says %s: %s", path, printed(out), r.cfg.install())}
	case string(said[1]) != r.cfg.Version:
		return &Ended{Reason: fmt.Sprintf("%s is claude %s and not %s: %s", path, said[1], r.cfg.Version, r.cfg.install())}
	}
	return nil
}

// versionLine is what every version of the CLI that we know answers to --version, and no other program.
var versionLine = regexp.MustCompile(`^\s*([0-9][0-9A-Za-z.+-]{0,60}) \(Claude Code\)\s*$`)

// printed is what a program printed, as a person may read it.
func printed(out []byte) string {
	if len(bytes.TrimSpace(out)) == 0 {
		return "nothing"
	}
	return strconv.Quote(brief(string(out)))
}

// install says how to come by the CLI.
func (c *Config) install() string {
	return fmt.Sprintf("`npm install -g @anthropic-ai/claude-code@%s`, or set agent.command to the path of that version.", c.Version)
}

// locate finds the CLI.
func (c *Config) locate() (string, error) {
	path, err := exec.LookPath(c.Command)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return "", &Ended{Reason: fmt.Sprintf("The claude CLI is not there (agent.command is %q): %s", c.Command, c.install()), Err: err}
	}
	return path, nil
}

// Sweep ends what a former bot with the same folder left running, and says how many processes that were. It gives up
// after 10 s. It also removes the folders of sessions that nobody has touched for 90 days; their transcripts the
// CLI removes by itself after as long. It is called once, before the first turn.
func (r *Runner) Sweep(ctx context.Context) (ended int, err error) {
	if err := r.claim(); err != nil {
		return 0, err
	}
	if live, _ := r.Live(); live > 0 {
		return 0, fmt.Errorf("sweep: %d processes of this bot are running", live)
	}
	ctx, cancel := context.WithTimeout(ctx, sweepLimit)
	defer cancel()
	found := newTally()
	found.hunt(ctx, kin{mark: r.family + ".", dir: filepath.Join(r.cfg.Dir, "sessions")})
	if found.err != nil {
		return found.ended(), fmt.Errorf("sweep: %w", found.err)
	}
	if len(found.left) > 0 {
		return found.ended(), &Ended{Reason: fmt.Sprintf("Processes of a former bot cannot be ended: pids %v.", found.left), Err: context.Cause(ctx)}
	}
	r.tidy(time.Now().Add(-oldSession))
	return found.ended(), nil
}

// tidy removes the folders of the sessions that last started before a time; each start writes in the folder.
func (r *Runner) tidy(before time.Time) {
	all := filepath.Join(r.cfg.Dir, "sessions")
	entries, err := os.ReadDir(all)
	if err != nil {
		return // there are none yet
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || uuid.Validate(e.Name()) != nil || !info.ModTime().Before(before) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(all, e.Name())); err != nil {
			r.cfg.Log.Warn("the folder of an old session cannot be removed", "error", err)
		}
	}
}

// claim makes this runner the only one that uses the folder: two would fork the transcripts.
func (r *Runner) claim() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lock != nil {
		return nil
	}
	if err := os.MkdirAll(r.cfg.Dir, 0o700); err != nil {
		return &Ended{Reason: "The folder for agent sessions cannot be made: " + err.Error() + "." + verbsWork, Err: err}
	}
	f, err := os.OpenFile(filepath.Join(r.cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return &Ended{Reason: "The folder for agent sessions cannot be written: " + err.Error() + "." + verbsWork, Err: err}
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return &Ended{Reason: fmt.Sprintf("Another bgbot uses the folder %s for agent sessions: stop that one first.", r.cfg.Dir) + verbsWork, Err: err}
	}
	r.lock = f
	return nil
}

// Live counts the running processes, and the turns that wait for one.
func (r *Runner) Live() (live, waiting int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live, len(r.line)
}

// Close stops all turns with [ErrClosed], ends all processes and returns when nothing is left. When ctx is done first,
// it stops being gentle, and 10 s later it gives up. Its error says what is left: that is also what was killed and hangs in
// the kernel, for which it does not wait.
func (r *Runner) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel(ErrClosed)
	done := make(chan struct{})
	go func() { r.wg.Wait(); close(done) }()
	var err error
	ended := true
	select {
	case <-done:
	case <-ctx.Done():
		found := newTally()
		found.sweep(kin{mark: r.id + "-", dir: filepath.Join(r.cfg.Dir, "sessions")})
		err = context.Cause(ctx)
		select {
		case <-done:
		case <-time.After(closeLimit):
			ended = false
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lock != nil {
		// Unlocked by name: a child that is being forked just now holds a copy of the descriptor until its exec.
		_ = unix.Flock(int(r.lock.Fd()), unix.LOCK_UN)
		_ = r.lock.Close()
		r.lock = nil
	}
	return r.left(ended, err)
}

// Start runs a prompt and returns at once. The turn ends early when ctx does, with its cause; gate is asked before each
// command. A session runs one turn at a time: a second one waits.
func (r *Runner) Start(ctx context.Context, prompt Prompt, gate Gate) *Turn {
	if prompt.Model == "" {
		prompt.Model = r.cfg.Model
	}
	t := &Turn{
		r: r, prompt: prompt, gate: gate, began: time.Now(), events: newFeed(),
		proven: make(chan struct{}), done: make(chan struct{}), waiting: map[string]string{},
	}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	s, err := r.admitTurn(prompt)
	if err != nil {
		t.cancel(err)
		t.finish(err)
		return t
	}
	t.uuid = r.uuid(prompt.Session, prompt.ID)
	forget := context.AfterFunc(r.ctx, func() { t.cancel(context.Cause(r.ctx)) })
	go func() {
		defer r.wg.Done()
		defer forget()
		t.finish(t.run(s))
		r.mu.Lock()
		defer r.mu.Unlock()
		s.turns--
		r.forget(s)
	}()
	return t
}

// admitTurn checks a prompt and counts its turn; shutdown refuses newcomers under the same lock.
func (r *Runner) admitTurn(prompt Prompt) (*session, error) {
	id, err := uuid.Parse(prompt.Session)
	switch {
	case err != nil || id.String() != prompt.Session:
		return nil, reject("The session %q is not a UUID.", prompt.Session)
	case strings.TrimSpace(prompt.Text) == "":
		return nil, reject("The message is empty.")
	case !modelName.MatchString(prompt.Model):
		return nil, reject("%q is not the name of a model, such as sonnet.", prompt.Model)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	s := r.sessions[prompt.Session]
	if s == nil {
		s = &session{id: prompt.Session, turn: make(chan struct{}, 1)}
		r.sessions[prompt.Session] = s
	}
	s.turns++
	r.wg.Add(1)
	return s, nil
}

// uuid makes the CLI's message id: the same id of a chat yields the same one, so that a message runs once.
func (r *Runner) uuid(session, id string) string {
	space, err := uuid.Parse(session)
	if err != nil {
		space = uuid.NameSpaceURL
	}
	return uuid.NewSHA1(space, []byte(id)).String()
}

func (r *Runner) kinOf(session string) kin {
	return kin{mark: r.id + "-" + session, dir: r.cfg.place(session).root}
}
