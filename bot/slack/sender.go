package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/google/uuid"
	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
)

// sender is the outbound half of a [Chat]: it says and edits what the core wants said, once for each time it is asked. A
// post that takes several calls remembers under its Key how far it came, so that the core's next try goes on from there.
type sender struct {
	api     *slackgo.Client
	bot     string // who we are as an author
	channel string // the only one that anything is said in
	log     *slog.Logger
	settle  time.Duration // how long Slack may still be working on a call whose answer was lost
	gap     time.Duration // between two posts, also of the parts of one message

	mu     sync.Mutex // guards what follows
	tries  map[string]*try
	posted time.Time       // last
	newest string          // the latest message id that Slack has given us: its clock, not ours
	alive  map[string]bool // threads that have replies
	mute   bool            // the workspace has no status line
}

// try is how far a message came. It is used by one call at a time: the core posts to a place in order.
type try struct {
	used   time.Time // last
	ts     string    // Slack's id, once the message is there
	lost   time.Time // when an answer was lost and the message may be there all the same
	since  string    // what was newest before the first try
	halved int       // the first part that Slack found too long; -1 for none
	files  upload
}

func newSender(api *slackgo.Client, channel string, log *slog.Logger) *sender {
	return &sender{
		api: api, channel: channel, log: log, settle: 2 * time.Second, gap: bot.SlowLimits.PostGap,
		tries: map[string]*try{}, alive: map[string]bool{},
	}
}

// Limits are Slack's: 50 and more chat.update a minute over all threads, of which 45 are used, and about one post a second
// in a channel. It counts each method by itself (docs).
func (s *sender) Limits() bot.Limits {
	limits := bot.SlowLimits
	limits.Apart = true
	return limits
}

// Post says t in p. A body that is too long for one message goes on in more of them, the buttons under the last one, files
// behind that; the id is that of the first. Slack has no post without a notification, so Quiet means nothing here: what
// should not ring is edited.
func (s *sender) Post(ctx context.Context, p bot.Place, t bot.Text) (string, error) {
	if err := s.serves(p); err != nil {
		return "", err
	}
	if t.Key == "" {
		t.Key = uuid.NewString()
	}
	if t.Only != "" {
		return "", s.whisper(ctx, p, t)
	}
	whole := s.try(t.Key)
	all := messages(t, whole.halved)
	for i := 0; i < len(all); i++ {
		key := t.Key
		if i > 0 {
			key = followUp(whole.ts, i)
		}
		err := s.put(ctx, within(p, whole.ts), key, all[i])
		if tooLong(err) && whole.halved < 0 {
			whole.halved = i
			all = messages(t, i)
			i--
			continue
		}
		if err != nil {
			return "", err
		}
	}
	if err := s.attach(ctx, within(p, whole.ts), whole, t.Files); err != nil {
		return "", err
	}
	s.forget(t.Key)
	return whole.ts, nil
}

// Edit replaces what Post said. What has grown beyond one message goes on in further ones, which later edits find again;
// what has shrunk leaves none behind.
func (s *sender) Edit(ctx context.Context, p bot.Place, id string, t bot.Text) error {
	if err := s.serves(p); err != nil {
		return err
	}
	if id == "" {
		return &bot.Gone{Reason: "slack: a message for one person only cannot be edited"}
	}
	err := s.rewrite(ctx, within(p, id), id, messages(t, -1))
	if tooLong(err) {
		err = s.rewrite(ctx, within(p, id), id, messages(t, 0))
	}
	return err
}

// rewrite makes all of the message with this id and of those behind it, and takes away what is behind all.
func (s *sender) rewrite(ctx context.Context, p bot.Place, id string, all []message) error {
	if err := s.update(ctx, id, all[0]); err != nil {
		return err
	}
	for i := 1; i < len(all); i++ {
		key := followUp(id, i)
		known := s.knows(key)
		t := s.try(key)
		if !known { // it may be there from before a restart
			t.lost, t.since = time.Now().Add(-s.settle), id
		}
		if err := s.again(ctx, p, key, t, all[i]); err != nil {
			return err
		}
	}
	for i := len(all); s.knows(followUp(id, i)); i++ {
		key := followUp(id, i)
		if ts := s.try(key).ts; ts != "" {
			_, _, err := s.api.DeleteMessageContext(ctx, s.channel, ts)
			if err = classify("chat.delete", err); err != nil && !isGone(err) {
				return err
			}
		}
		s.forget(key)
	}
	return nil
}

// again edits a message behind the first, or posts it where there is none.
func (s *sender) again(ctx context.Context, p bot.Place, key string, t *try, m message) error {
	if !t.lost.IsZero() {
		if err := s.find(ctx, p, key, t); err != nil {
			return err
		}
	}
	if t.ts != "" {
		err := s.update(ctx, t.ts, m)
		if !isGone(err) {
			return err
		}
		t.ts = ""
	}
	return s.put(ctx, p, key, m)
}

// update edits one message. An answer without an id is a failure whatever else it says.
func (s *sender) update(ctx context.Context, ts string, m message) error {
	_, got, _, err := s.api.UpdateMessageContext(ctx, s.channel, ts, m.options()...)
	if err == nil && got == "" {
		err = errNoID
	}
	return classify("chat.update", err)
}

// put posts m unless it is there already. After a lost answer it looks before it repeats.
func (s *sender) put(ctx context.Context, p bot.Place, key string, m message) error {
	t := s.try(key)
	if t.ts != "" {
		return nil
	}
	if !t.lost.IsZero() {
		if err := s.find(ctx, p, key, t); err != nil || t.ts != "" {
			return err
		}
	}
	if t.since == "" {
		t.since = s.latest()
	}
	if err := s.space(ctx); err != nil {
		return err
	}
	options := m.options(slackgo.MsgOptionMetadata(mark(key)))
	if p.Thread != "" {
		options = append(options, slackgo.MsgOptionTS(p.Thread))
	}
	_, ts, err := s.api.PostMessageContext(ctx, s.channel, options...)
	if err == nil && ts == "" {
		err = errNoID
	}
	if err != nil {
		if unsure(err) {
			t.lost = time.Now()
		}
		return classify("chat.postMessage", err)
	}
	t.ts = ts
	s.saw(p, ts)
	return nil
}

// space waits until another post may go out.
func (s *sender) space(ctx context.Context) error {
	s.mu.Lock()
	at := time.Now()
	if due := s.posted.Add(s.gap); due.After(at) {
		at = due
	}
	s.posted = at
	s.mu.Unlock()
	if at := time.Until(at); at > 0 {
		return pauseFor(ctx, at)
	}
	return nil
}

// followUp is the key of the i'th message behind the one with this id.
func followUp(id string, i int) string { return fmt.Sprintf("%s/%d", id, i) }

// within is p, or the thread under id where p is the channel itself.
func within(p bot.Place, id string) bot.Place {
	if p.Thread == "" {
		p.Thread = id
	}
	return p
}

func (s *sender) serves(p bot.Place) error {
	if p.Channel != s.channel {
		return &bot.Gone{Reason: "slack: I say nothing in " + p.Channel + ", only in the incident channel"}
	}
	return nil
}

// remembered is how many tries and threads are kept at least.
const remembered = 1000

// try is what is known of a key. Tries end with their post, but the messages behind a first one are kept for its edits.
func (s *sender) try(key string) *try {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tries[key]
	if t == nil {
		if len(s.tries) >= remembered {
			maps.DeleteFunc(s.tries, func(_ string, t *try) bool { return time.Since(t.used) > time.Hour })
		}
		t = &try{halved: -1}
		s.tries[key] = t
	}
	t.used = time.Now()
	return t
}

func (s *sender) knows(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tries[key] != nil
}

func (s *sender) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tries, key)
}

// saw notes an id that Slack gave us.
func (s *sender) saw(p bot.Place, ts string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = max(s.newest, ts)
	if len(s.alive) >= remembered {
		clear(s.alive)
	}
	if p.Thread != "" {
		s.alive[p.Thread] = true
	}
}

// latest is the newest id that Slack has given us, and a little before: its servers need not agree to the microsecond.
func (s *sender) latest() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := moment(s.newest); ok {
		return stamp(at.Add(-5 * time.Second))
	}
	return ""
}

func isGone(err error) bool {
	_, is := errors.AsType[*bot.Gone](err)
	return is
}
