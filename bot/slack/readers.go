package slack

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// readers watches who can read what is said: those in the channel who are not on the allowlist, and everybody once the
// channel is made public. Whoever joins while Slack delivers is announced by [intake.joined]; here are those who were
// there before, who came during a gap, and what no event tells: an app that is set up for a private channel hears nothing
// of one that has become public.
func (in *intake) readers(ctx context.Context, public bool) {
	pause, failed := time.Duration(0), ""
	for wait(ctx, pause, in.audience) && wait(ctx, in.pace.lookGap, nil) {
		pause = in.pace.look
		is, err := in.private(ctx)
		if err == nil && is == public {
			public = !is
			in.opened(ctx, public)
		}
		if err == nil && !public { // else it is everybody
			err = in.strangers(ctx)
		}
		text := ""
		if err != nil {
			pause, text = in.pace.lookAgain, err.Error()
		}
		if text != failed && err != nil && ctx.Err() == nil {
			in.log.InfoContext(ctx, "who can read the channel is not known", "err", err)
		}
		failed = text
	}
}

// private asks whether the channel is. An app that may look at private channels only is told that it lacks a scope.
func (in *intake) private(ctx context.Context) (bool, error) {
	_, private, err := askChannel(ctx, in.web, in.home)
	if no, ok := errors.AsType[*webError](err); ok && no.code == "missing_scope" && strings.Contains(no.needed, "channels:read") {
		return false, nil
	}
	return private, err
}

// opened tells people that the channel was made public, or private again.
func (in *intake) opened(ctx context.Context, public bool) {
	text := "✅ This channel is private again: who comes in is announced."
	if public {
		text = "⚠️ This channel was made public: everybody in the workspace can read what was and is said here, and Slack may not deliver it to me any more.\nMake it private again, or set slack.channel to a private one."
	}
	in.log.WarnContext(ctx, "who can read the channel has changed", "public", public)
	in.notice(ctx, "opened/"+stamp(time.Now()), text)
}

// strangers tells people who is in the channel that was not there at the last look, by an earlier process too. At the very
// first it tells the log alone: they were let in before the bot was.
func (in *intake) strangers(ctx context.Context) error {
	all, err := askStrangers(ctx, in.web, in.home, in.people)
	if err != nil {
		return err
	}
	key, now := "strangers/"+in.channel, strings.Join(append([]string{"-"}, all...), " ")
	kept := in.cursor(ctx, key)
	if now == kept {
		return nil
	}
	in.setCursor(ctx, key, now)
	var fresh []string
	for _, user := range all {
		if !slices.Contains(strings.Fields(kept), user) && (kept == "" || in.arrivals.first(user, time.Now())) {
			fresh = append(fresh, user)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	who := in.names(ctx, fresh)
	in.log.WarnContext(ctx, "not on the allowlist, and can read everything in the channel", "who", who)
	if kept != "" {
		in.notice(ctx, "strangers/"+stamp(time.Now()), "⚠️ In this channel and not on the allowlist (auth.slack): "+who+". They can read everything here; I do nothing for them.")
	}
	return nil
}

// names are some people as they are named, and how many more there are.
func (in *intake) names(ctx context.Context, users []string) string {
	var named []string
	for _, user := range users[:min(len(users), namedAtMost)] {
		named = append(named, in.stranger(ctx, user))
	}
	if more := len(users) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(named, ", ")
}

// first says that nobody was told of somebody yet, and notes that they are now.
func (a *arrivals) first(user string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.note(user, now)
}

// askStrangers asks Slack who is in our channel, and leaves out the allowlist and ourselves.
func askStrangers(ctx context.Context, w *web, h home, p *people) (all []string, err error) {
	for page, cursor := 0, ""; page < 5; page++ {
		o, _, err := w.ask(ctx, "conversations.members", url.Values{"channel": {h.channel}, "limit": {"1000"}, "cursor": {cursor}})
		if err != nil {
			return nil, err
		}
		for _, raw := range o.list("members") {
			user := strings.Trim(string(raw), `"`)
			if userPattern.MatchString(user) && user != h.user && !p.listed(user) {
				all = append(all, user)
			}
		}
		if cursor = o.in("response_metadata").text("next_cursor"); cursor == "" {
			break
		}
	}
	slices.Sort(all)
	return all, nil
}

// readers names for the doctor who can read the channel.
func (s *survey) readers(ctx context.Context) (finding, error) {
	if s.public {
		return good("everybody in the workspace"), nil
	}
	all, err := askStrangers(ctx, s.web, s.home, newPeople(s.web, s.home.team, s.opt.People, s.opt.Log))
	if err != nil {
		return finding{}, err
	}
	if len(all) == 0 {
		return good("nobody but the allowlist"), nil
	}
	in := intake{home: s.home, people: newPeople(s.web, s.home.team, s.opt.People, s.opt.Log)}
	return good("not on the allowlist, and can read everything: " + in.names(ctx, all)), nil
}
