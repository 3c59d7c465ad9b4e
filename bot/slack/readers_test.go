package slack

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

const inTheChannel = "⚠️ In this channel and not on the allowlist (auth.slack): stranger (U0STRANGER). They can read everything here; I do nothing for them."

// Who came while the bot was away is told of, once.
func TestWhoIsInTheChannelAlready(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	known := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.kept["strangers/"+s.Channel()] != ""
	}
	first := s.run(nil)
	s.until("the first look", known)
	_ = first.stop()
	if _, err := s.Join(s.Channel(), stranger); err != nil {
		t.Fatal(err)
	}
	s.DropQueued()
	second := s.run(nil)
	s.notes(inTheChannel)
	_ = second.stop()
	s.mu.Lock()
	told := s.kept["strangers/"+s.Channel()]
	s.mu.Unlock()
	if told != "- "+stranger {
		t.Errorf("kept: %q", told)
	}
	s.run(func(p *pace) { p.look = 5 * time.Millisecond })
	looks := len(s.Calls("conversations.members"))
	s.until("some looks", func() bool { return len(s.Calls("conversations.members")) > looks+3 })
	n := 0
	for _, m := range s.core.all() {
		if strings.Contains(m.Notice, stranger) {
			n++
		}
	}
	if n != 1 {
		t.Errorf("told %d times", n)
	}
}

// Slack tells an app that is set up for private channels nothing of one that has become public.
func TestAChannelThatIsMadePublicIsNoticed(t *testing.T) {
	t.Parallel()
	for name, hide := range map[string]bool{"Slack shows it": false, "Slack wants another scope": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.run(func(p *pace) { p.look = 5 * time.Millisecond })
			restore := func() {}
			if hide {
				restore = s.Inject(slacktest.Fault{Methods: []string{"conversations.info"}, Kind: slacktest.ErrorCode, Error: "missing_scope", Needed: "channels:read"})
			} else {
				s.AddChannel(slacktest.Channel{ID: s.Channel(), Name: "incident", Public: true})
			}
			s.core.await(t, "the alarm", func(m bot.Message) bool {
				return strings.HasPrefix(m.Notice, "⚠️ This channel was made public: everybody in the workspace can read")
			})
			restore()
			s.AddChannel(slacktest.Channel{ID: s.Channel(), Name: "incident"})
			s.notes("✅ This channel is private again: who comes in is announced.")
		})
	}
}

// While Slack does not say who is there, it is asked every half minute, and the log has it once.
func TestAReaderThatIsNotKnownIsOneLine(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	var log lockedBuffer
	s.over = func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) }
	restore := s.Inject(slacktest.Fault{Methods: []string{"conversations.members"}, Kind: slacktest.ErrorCode, Error: "not_in_channel"})
	s.run(nil)
	s.until("some looks", func() bool { return len(s.Calls("conversations.members")) > 5 })
	restore()
	s.until("an answer", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.kept["strangers/"+s.Channel()] != ""
	})
	if n := strings.Count(log.String(), "who can read the channel is not known"); n != 1 {
		t.Errorf("%d lines:\n%s", n, log.String())
	}
}
