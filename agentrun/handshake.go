package agentrun

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Why a start line did not fit the session.
var (
	errNoConversation = errors.New("no such conversation")
	errInUse          = errors.New("the conversation exists")
)

// start brings up a process for the session, resumed where there is something to resume. Whether there is, only the CLI
// knows for certain: the transcript is its own.
func (r *Runner) start(ctx context.Context, s *session, prompt Prompt) (*process, error) {
	resume := prompt.Resume || s.known
	p, err := r.startAs(ctx, s, prompt, resume)
	switch {
	case resume && errors.Is(err, errNoConversation):
		p, err = r.startAs(ctx, s, prompt, false)
	case !resume && errors.Is(err, errInUse):
		p, err = r.startAs(ctx, s, prompt, true)
	}
	s.known = s.known || err == nil
	return p, err
}

func (r *Runner) startAs(ctx context.Context, s *session, prompt Prompt, resume bool) (*process, error) {
	if ctx.Err() != nil {
		return nil, because(ctx)
	}
	sp, err := r.specify(s, prompt, resume)
	if err != nil {
		return nil, err
	}
	p, err := spawn(sp)
	if err != nil {
		if sp.release != nil {
			sp.release()
		}
		return nil, &Ended{Reason: "The claude CLI could not be started." + verbsWork, Err: err}
	}
	r.mu.Lock()
	s.root = p.kin.root
	r.mu.Unlock()
	if err := r.greet(ctx, p); err != nil {
		p.signal(syscall.SIGKILL) // nothing was asked of it yet
		p.end(0)
		r.bury(p)
		return nil, err
	}
	return p, nil
}

// specify makes all that a process needs. Its errors are for a person.
func (r *Runner) specify(s *session, prompt Prompt, resume bool) (spec, error) {
	path, err := r.cfg.locate()
	if err != nil {
		return spec{}, err
	}
	secret, err := r.cfg.secret()
	if err != nil {
		return spec{}, &Ended{Reason: "The agent cannot log in: " + err.Error() + "." + verbsWork}
	}
	at := r.cfg.place(s.id)
	if err = r.cfg.furnish(at); err == nil {
		err = r.cfg.build(at, path)
	}
	if err != nil {
		return spec{}, &Ended{Reason: "The folder of the agent session cannot be written: " + err.Error() + "." + verbsWork, Err: err}
	}
	var env map[string]string
	var release func()
	if r.cfg.Prepare != nil {
		if env, release, err = r.cfg.Prepare(s.id, at.root); err != nil {
			return spec{}, &Ended{Reason: "What the agent needs could not be prepared: " + err.Error() + "." + verbsWork, Err: err}
		}
	}
	k := r.kinOf(s.id)
	return spec{
		path: path, rules: at.rules(), args: r.cfg.arguments(at, s.id, prompt.Model, resume), env: r.cfg.environment(at, k.mark, env), dir: at.work(),
		session: s.id, model: prompt.Model, resume: resume, secret: secret, kin: k, release: release,
		log: r.cfg.Log.With("session", s.id),
	}, nil
}

// greet waits until the CLI is up and says that our settings hold: --settings with a mistake in it is silently ignored
// (measured with CLI 2.1.330), and then commands would run unasked.
func (r *Runner) greet(ctx context.Context, p *process) error {
	const id = "settings"
	limit := time.NewTimer(r.startLimit)
	defer limit.Stop()
	if err := p.send(sayControl(id, "get_settings", nil)); err != nil {
		p.log.WarnContext(ctx, "the claude CLI takes no input", "error", err) // it says why on stderr, and ends
	}
	for {
		select {
		case m, ok := <-p.lines:
			if !ok {
				return p.stillborn()
			}
			if res, ok := m.(*responseLine); ok && res.Response.ID == id {
				return settingsHold(res)
			}
		case <-limit.C:
			return &Ended{Reason: fmt.Sprintf("The claude CLI was not ready within %s and was ended.", r.startLimit) + verbsWork}
		case <-ctx.Done():
			return because(ctx)
		}
	}
}

func settingsHold(m *responseLine) error {
	var got struct {
		Effective struct {
			Permissions struct {
				Ask []string `json:"ask"`
			} `json:"permissions"`
		} `json:"effective"`
	}
	err := json.Unmarshal(m.Response.Response, &got)
	if err != nil || m.Response.Subtype != "success" || !slices.Contains(got.Effective.Permissions.Ask, "Bash") {
		return &Ended{Reason: "The claude CLI is not run, because it did not take the rule to ask before each command." + verbsWork, Err: err}
	}
	return nil
}

// stillborn says why the CLI ended before it was ready; lines are closed.
func (p *process) stillborn() error {
	text := p.stderr()
	switch {
	case strings.Contains(text, "No conversation found"):
		return errNoConversation
	case strings.Contains(text, "already in use"):
		return errInUse
	}
	how := "exit 0"
	if p.exit != nil {
		how = strings.Replace(p.exit.Error(), "exit status", "exit", 1)
	}
	reason := "The claude CLI ended while it started (" + how + ")"
	if text != "" {
		reason += ": " + brief(text)
	}
	return &Ended{Reason: reason + ". `bgbot doctor` tells more." + verbsWork}
}

// cancelled reads which messages an interrupt took out of the queue.
func cancelled(response json.RawMessage) []string {
	var got struct {
		Cancelled []string `json:"cancelled"`
	}
	if err := json.Unmarshal(response, &got); err != nil {
		return nil
	}
	return got.Cancelled
}
