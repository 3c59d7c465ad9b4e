package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	playLimit  = 6 * time.Minute
	pollEvery  = 250 * time.Millisecond
	curtain    = time.Second      // quiet after the last word
	impatience = 30 * time.Second // with a dead model and a bot that does not say so
	lastWords  = 20 * time.Second // how long it waits for them after the recovery
)

var (
	confirmCode = regexp.MustCompile("(?i)\\btype:? +`?confirm +([0-9A-Za-z]{3,12})")
	success     = regexp.MustCompile(`^bgbot +[▸~] ✅`)
	botLine     = regexp.MustCompile(`^bgbot +[▸~]`)
	modelDown   = regexp.MustCompile(`(?i)the model (cannot be reached|is down)|the verbs (need no model|still work)`)
)

// operator is the person at the console, played.
type operator struct {
	lab     *Lab
	in      io.Writer
	started time.Time
	typed   map[string]bool // what must be typed once only
	first   time.Duration   // of the first line of the bot
	last    time.Time       // of the newest line
	closed  bool            // the last word was shown
}

// Play types the scenario's prompt into in, reads the console's plain lines from out, confirms what is asked, takes the
// power path when the model is down, and ends when the VM is really back and the bot has had its last word, or when that
// does not happen. pushes, asked once at the end, counts notifications; it may be nil. Play reads out in a goroutine
// that ends only with out: the caller closes it. The error tells that the play itself failed; the drill's own failure is
// in the score.
func (l *Lab) Play(ctx context.Context, in io.Writer, out io.Reader, pushes func() int) (Score, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, playLimit, fmt.Errorf("%s had passed", playLimit))
	defer cancel()
	copyTo := l.opts.Transcript
	if copyTo == nil {
		copyTo = io.Discard
	}
	copyTo = &oneWriter{w: copyTo}
	lines := make(chan string)
	go read(ctx, io.TeeReader(out, copyTo), lines)

	o := &operator{lab: l, in: io.MultiWriter(in, copyTo), started: time.Now(), typed: map[string]bool{}, last: time.Now()}
	if err := o.say(l.scenario.Prompt); err != nil {
		return Score{}, err
	}
	recovered, err := o.watch(ctx, lines)
	score := Score{FirstLine: o.first, Recovered: recovered, OK: recovered > 0 && o.closed}
	for _, c := range l.Commands() {
		if c.At.Before(o.started) {
			continue
		}
		if score.Commands++; score.Commands == 1 {
			score.FirstCommand = c.At.Sub(o.started)
		}
	}
	if pushes != nil {
		score.Pushes = pushes()
	}
	switch {
	case recovered == 0:
		score.Why = o.why(ctx, err)
	case !o.closed:
		score.Why = "the VM is back, but the last word of the bot or of its agent was another"
	}
	return score, nil
}

func read(ctx context.Context, out io.Reader, lines chan<- string) {
	defer close(lines)
	for s := bufio.NewReader(out); ; {
		line, err := s.ReadString('\n')
		if line != "" {
			select {
			case lines <- strings.TrimRight(line, "\r\n"):
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// watch reacts to lines until the drill is over, and says when the VM was back; 0 is never.
func (o *operator) watch(ctx context.Context, lines <-chan string) (time.Duration, error) {
	checkCtx, stop := context.WithCancel(ctx)
	back := make(chan time.Duration, 1)
	var checking sync.WaitGroup
	defer checking.Wait()
	defer stop()
	checking.Go(func() { o.check(checkCtx, back) })
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	var recovered time.Duration
	for {
		select {
		case line, open := <-lines:
			if !open {
				if recovered > 0 {
					return recovered, nil
				}
				return 0, errors.New("the console ended before the VM was back")
			}
			if err := o.hear(line); err != nil {
				return recovered, err
			}
		case recovered = <-back:
			o.last = time.Now()
		case <-tick.C:
			if recovered > 0 && o.finished(recovered) {
				return recovered, nil
			}
			if o.lab.opts.BreakModel && time.Since(o.started) > impatience {
				if err := o.once("vm cycle"); err != nil {
					return recovered, err
				}
			}
		case <-ctx.Done():
			return recovered, context.Cause(ctx)
		}
	}
}

// check asks the VM itself, not the bot, whether it is back.
func (o *operator) check(ctx context.Context, back chan<- time.Duration) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if o.lab.Recovered(ctx) == nil {
			back <- time.Since(o.started)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// finished is true when the bot has fallen silent after its last word, or has none.
func (o *operator) finished(recovered time.Duration) bool {
	silent := time.Since(o.last)
	switch {
	case o.closed && silent > curtain, silent > lastWords:
		return true
	default: // a ticker may go on for ever
		return time.Since(o.started)-recovered > 2*lastWords
	}
}

func (o *operator) hear(line string) error {
	o.last = time.Now()
	if botLine.MatchString(line) && o.first == 0 {
		o.first = time.Since(o.started)
	}
	if o.lab.opts.BreakModel && success.MatchString(line) {
		o.closed = true
	}
	if o.lab.model.closing.Load() && strings.Contains(line, o.lab.scenario.closing) {
		o.closed = true
	}
	if m := confirmCode.FindStringSubmatch(line); m != nil {
		return o.once("confirm " + m[1])
	}
	if modelDown.MatchString(line) {
		return o.once("vm cycle")
	}
	return nil
}

func (o *operator) once(line string) error {
	if o.typed[line] {
		return nil
	}
	o.typed[line] = true
	return o.say(line)
}

func (o *operator) say(line string) error {
	_, err := io.WriteString(o.in, line+"\n")
	return err
}

func (o *operator) why(ctx context.Context, err error) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*o.lab.checkLimit())
	defer cancel()
	state := o.lab.Recovered(ctx)
	if state == nil {
		state = errors.New("it came back only afterwards")
	}
	return fmt.Sprintf("%v; the last check said: %v", err, state)
}

// oneWriter lets several goroutines write to one writer, and never fails them.
type oneWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (o *oneWriter) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.w.Write(b)
	return len(b), nil
}
