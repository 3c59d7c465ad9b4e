package slack

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"bgbot/internal/slacktest"
)

func TestAStrangerInTheChannelIsAnnounced(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.AddUser(slacktest.User{ID: "U0GUEST", Name: "visitor", Restricted: true})
	s.run(nil)
	for _, c := range []struct{ id, who string }{
		{stranger, "stranger (U0STRANGER)"},
		{"U0GUEST", "visitor (U0GUEST, whose account is a guest's (is_restricted))"},
	} {
		if _, err := s.Join(s.Channel(), c.id); err != nil {
			t.Fatal(err)
		}
		s.notes("⚠️ " + c.who + " joined this channel and can read everything here; they are not on the allowlist (auth.slack), so I do nothing for them.")
	}
}

// A name is what its owner likes it to be, and who comes and goes does not make the bot talk.
func TestStrangersCannotSpeakThroughTheirNames(t *testing.T) {
	t.Parallel()
	in, r := newIntake(t)
	in.pace.merge = time.Millisecond
	in.people.names[stranger] = "[✅ devvm is back](https://evil.example/x) **now** ![p](https://evil.example/p)"
	join := func(user string) {
		event := wrap(fields{"type": "member_joined_channel", "user": user, "channel": ourChannel, "event_ts": ago(0)})
		if _, err := in.take(t.Context(), envelope{Type: "events_api", Payload: event.raw()}); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		join(stranger)
	}
	in.wg.Wait()
	const want = `⚠️ \[✅ devvm is back\](https://evil.example/… (U0STRANGER) joined this channel and can read everything here; they are not on the allowlist (auth.slack), so I do nothing for them.`
	if len(r.got) != 1 || r.got[0].Notice != want {
		t.Errorf("it said %+v", r.got)
	}
	if !in.arrivals.add(stranger, time.Now().Add(2*arrivalAgain)) {
		t.Error("nobody is ever announced again")
	}
	in.arrivals.next()
	in.arrivals.next()
	r.got = nil
	in.arrivals.mu.Lock() // a crowd comes before the first of them is announced
	for i := range 7 {
		in.arrivals.waiting = append(in.arrivals.waiting, fmt.Sprintf("U00%d", i))
	}
	in.arrivals.mu.Unlock()
	in.announce()
	if len(r.got) != 1 || !strings.HasPrefix(r.got[0].Notice, "⚠️ 7 people (U000 (U000), U001 (U001), U002 (U002), U003 (U003), U004 (U004), …) joined this channel") {
		t.Errorf("it said %+v", r.got)
	}
}
