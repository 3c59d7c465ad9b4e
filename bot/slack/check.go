package slack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Finding is one thing that [Check] looked at.
type Finding struct {
	What  string // a key of the configuration, or what else it is
	Text  string // what was found, or what is wrong and what mends it
	Level Level
}

// Level is how bad a finding is.
type Level int

// The levels.
const (
	Good     Level = iota
	Doubtful       // it serves, but somebody should know
	Wrong          // it does not serve
)

// checkLimit is how long one look of Check goes on trying.
const checkLimit = 5 * time.Second

// Check looks at everything that Open does, at the connection, the clock and who can read the channel, and explains each of them.
func Check(ctx context.Context, opt Options) []Finding {
	s := newSurvey(opt)
	var all []Finding
	first, rest := s.needed()
	blind := false // without a bot token everything else of it would only repeat that
	for _, look := range slices.Concat(first, rest, []look{{"slack.app_token", s.link}, {"clock", s.clock}, {"slack.readers", s.readers}}) {
		if blind && look.what != "slack.app_token" {
			continue
		}
		found, err := insist(ctx, s.opt.Log, checkLimit, look.do)
		f := Finding{What: look.what, Text: found.text}
		switch {
		case err != nil:
			f.Level, f.Text = Wrong, sentence(err)
		case found.doubtful:
			f.Level = Doubtful
		}
		all = append(all, f)
		if f.Level == Wrong && look.what == "configuration" {
			break
		}
		blind = blind || f.Level == Wrong && look.what == "slack.bot_token"
	}
	return all
}

// sentence is an error as a person reads it.
func sentence(err error) string {
	type spoken interface {
		error
		UserMessage() string
	}
	if e, ok := errors.AsType[spoken](err); ok {
		return e.UserMessage()
	}
	return err.Error()
}

// link opens a connection as serving would, waits for its hello and closes it. An event that comes meanwhile is not
// acknowledged, so Slack sends it again to whoever serves.
func (s *survey) link(ctx context.Context) (finding, error) {
	l := newLink(linkOptions{web: s.web.forApp(s.opt.AppToken), log: s.opt.Log})
	others, err := others(ctx, l)
	switch {
	case err != nil:
		return finding{}, err
	case others == 1:
		return good("connects; 1 other connection on this token is open. It is bgbot's own if it is serving now; any other program's takes messages away from it"), nil
	case others > 1:
		return finding{fmt.Sprintf("connects; %d other connections on this token are open. One is bgbot's own if it is serving now; more would take messages away from it", others), true}, nil
	}
	return good("connects; no other program uses this token"), nil
}

// others connects once, disconnects, and returns how many connections of others Slack counts.
func others(ctx context.Context, l *link) (int, error) {
	s, err := l.connect(ctx)
	if err != nil {
		return 0, err
	}
	s.close()
	l.running.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.foreign, nil
}

// clock compares ours with Slack's.
func (s *survey) clock(context.Context) (finding, error) {
	skew := s.web.clock.skew()
	if skew.Abs() < 30*time.Second {
		return good("right"), nil
	}
	way := "behind"
	if skew < 0 {
		way = "ahead of"
	}
	return finding{fmt.Sprintf("%s %s Slack's. bgbot allows for that; certificates, logs and other programs do not: mend the time of this machine", span(skew.Abs()), way), true}, nil
}
