package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// people is what Slack says of the people on the allowlist: whether an account may be trusted with what its ID may do.
//
// A message is acknowledged only once it is recorded, and must not wait for the network before. So the records are read
// at start and again every few minutes, behind everybody's back, and the path of a message only looks here. Nobody else
// is looked up: the core refuses them by their ID, and a stranger's flood must not become a flood of questions.
//
// A record counts for half an hour: Slack may fail to tell us of people for a while, in the very night in which somebody
// needs us, and a person whom Slack signs out cannot write anyway. What could change unseen in that time is that a member
// becomes a guest. After it, nobody acts until Slack answers again.
type people struct {
	web  *web
	team string
	ids  []string // the allowlist
	log  *slog.Logger

	mu    sync.Mutex        // guards what follows
	known map[string]record // by ID
	names map[string]string // of others too, for display only
}

// record is what Slack said of somebody.
type record struct {
	barred string // why the account may not act; "" if it may
	at     time.Time
}

// trusted is how long what Slack said counts while it cannot be asked again.
const trusted = 30 * time.Minute

func newPeople(w *web, team string, ids []string, log *slog.Logger) *people {
	return &people{web: w, team: team, ids: slices.Compact(slices.Sorted(slices.Values(ids))), log: log, known: map[string]record{}, names: map[string]string{}}
}

// listed says that the core may let this person act.
func (p *people) listed(id string) bool { return slices.Contains(p.ids, id) }

// bar is an error if what Slack says of a listed person speaks against them, or is not known.
func (p *people) bar(id string) error {
	if !p.listed(id) {
		return nil
	}
	p.mu.Lock()
	r, ok := p.known[id]
	p.mu.Unlock()
	switch age := time.Since(r.at); {
	case !ok:
		return refuseForNow("the person's record was not read yet", "Nothing was done: I have to check your Slack account first, and Slack did not answer yet. I keep asking; say it again in a minute.")
	case r.barred != "":
		return refuseAloud("barred: "+r.barred, "You may not act here: your Slack account "+r.barred+". Somebody on the allowlist has to.")
	case age > trusted:
		return refuseForNow("the person's record is too old", fmt.Sprintf("Nothing was done: I have to check your Slack account now and then, and Slack has not answered that for %d min. I keep asking; say it again in a minute, or use `bgbot console`.", int(age.Minutes())))
	}
	return nil
}

// name is how somebody is shown, the ID if that is not known.
func (p *people) name(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.names[id]; n != "" {
		return n
	}
	return id
}

// refresh reads the records of the allowlist. What could not be read stays as it was, and is in the error.
func (p *people) refresh(ctx context.Context) error {
	errs := make([]error, len(p.ids))
	var reading sync.WaitGroup
	for i, id := range p.ids {
		reading.Go(func() {
			if _, err := p.read(ctx, id); err != nil {
				errs[i] = fmt.Errorf("%s: %w", id, err)
			}
		})
	}
	reading.Wait()
	return errors.Join(errs...)
}

// read asks Slack for somebody's record and keeps it.
func (p *people) read(ctx context.Context, id string) (record, error) {
	o, _, err := p.web.ask(ctx, "users.info", url.Values{"user": {id}})
	r := record{at: time.Now()}
	if no, ok := errors.AsType[*webError](err); ok && (no.code == "user_not_found" || no.code == "user_not_visible") {
		r.barred, err = "does not exist in this workspace", nil
	}
	if err != nil {
		return r, err
	}
	user := o.in("user")
	if r.barred == "" {
		r.barred = barred(user, id, p.team)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listed(id) {
		switch was, known := p.known[id]; {
		case known && was.barred != r.barred:
			p.log.WarnContext(ctx, "what Slack says of a person on the allowlist has changed", "person", id, "barred", r.barred)
		case !known && r.barred != "":
			p.log.WarnContext(ctx, "a person on the allowlist may not act", "person", id, "barred", r.barred)
		}
		p.known[id] = r
	}
	if n := shownName(user); n != "" && len(p.names) < 1000 {
		p.names[id] = n
	}
	return r, nil
}

// flags are what a record says of an account that may not act, whatever its ID. is_app_user is not among them: by Slack's
// reference it is somebody who has authorized the calling app, such as whoever installed it, and that is our operator.
var flags = []struct{ key, is string }{
	{"deleted", "is deactivated"},
	{"is_bot", "is a bot's"},
	{"is_workflow_bot", "is a workflow's"},
	{"is_restricted", "is a guest's"},
	{"is_ultra_restricted", "is a guest's"},
	{"is_stranger", "is a stranger's here"},
}

// barred says what in a user's record speaks against trusting the account, "" if nothing does.
func barred(user object, id, team string) string {
	switch confirmed := string(user["is_email_confirmed"]); {
	case user.text("id") != id:
		return "is not the one that Slack answered with"
	case user.text("team_id") != team:
		return "belongs to another workspace"
	case confirmed != "" && confirmed != "true" && confirmed != "null": // members whom Slack hides it from have none
		return "has an e-mail address that is not confirmed (is_email_confirmed)"
	}
	for _, flag := range flags {
		if user.set(flag.key) {
			return flag.is + " (" + flag.key + ")"
		}
	}
	return ""
}

// shownName is the name that Slack shows for a user.
func shownName(user object) string {
	profile := user.in("profile")
	for _, name := range []string{profile.text("display_name"), profile.text("real_name"), user.text("real_name"), user.text("name")} {
		if name != "" {
			return name
		}
	}
	return ""
}

// complete says that a record of everybody on the allowlist was read.
func (p *people) complete() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.known) == len(p.ids)
}

// summary says who may act as far as Slack is concerned, and doubts whether that is everybody on the allowlist.
func (p *people) summary() (found string, doubts bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lines []string
	for _, id := range p.ids {
		r, ok := p.known[id]
		switch name := p.names[id]; {
		case !ok:
			doubts = true
			lines = append(lines, id+" could not be looked up yet and may not act until then")
		case r.barred != "":
			doubts = true
			lines = append(lines, fmt.Sprintf("%s %s may not act: the account %s", id, name, r.barred))
		default:
			lines = append(lines, id+" "+name)
		}
	}
	if len(p.ids) == 0 {
		return "nobody is on the allowlist, so nobody may act", true
	}
	return strings.Join(lines, "; "), doubts
}
