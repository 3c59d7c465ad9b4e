package slacktest

import (
	"context"
	"iter"
	"slices"
	"time"
)

// Kind is what happened in the workspace.
type Kind string

// What happens.
const (
	Posted    Kind = "posted"
	Changed   Kind = "changed"
	Deleted   Kind = "deleted"
	Whispered Kind = "whispered" // an ephemeral message
	Drawn     Kind = "drawn"     // a view: the home of a person, or a dialog
	Status    Kind = "status"    // the line "bgbot is working" beside a thread
	Reacted   Kind = "reacted"   // an emoji came or went
)

// Happening is one thing that people can see, in the order in which Slack accepted it.
type Happening struct {
	Seq     int
	At      time.Time
	Kind    Kind
	Message Message // as it stood then; for Status only Channel, ThreadTS and Text
	View    View    // of Drawn
}

// happen records something. The lock is held by the caller.
func (s *Server) happen(h Happening) {
	h.Seq, h.At = len(s.feed), time.Now()
	s.feed = append(s.feed, h)
	s.notify()
}

// Happenings is everything so far, oldest first.
func (s *Server) Happenings() []Happening {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.feed)
}

// Feed is everything from the happening with this number on, past and future, until ctx is done or the server is closed.
func (s *Server) Feed(ctx context.Context, from int) iter.Seq[Happening] {
	return func(yield func(Happening) bool) {
		for next := from; ; next++ {
			var h Happening
			err := s.wait(ctx, func() bool {
				if next >= len(s.feed) {
					return false
				}
				h = s.feed[next]
				return true
			})
			if err != nil || !yield(h) {
				return
			}
		}
	}
}

// Await gives the first happening from the given number on for which is returns true.
func (s *Server) Await(ctx context.Context, from int, is func(Happening) bool) (Happening, error) {
	for h := range s.Feed(ctx, from) {
		if is(h) {
			return h, nil
		}
	}
	if err := context.Cause(ctx); err != nil {
		return Happening{}, err
	}
	return Happening{}, context.Canceled // the server is closed
}
