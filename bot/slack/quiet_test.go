package slack

import (
	"log/slog"
	"strings"
	"testing"

	"bgbot/internal/slacktest"
)

// Every line of progress is an edit of ours, and comes back as an event.
func TestTheLogIsQuietAboutEdits(t *testing.T) {
	t.Parallel()
	ours := typed().with(fields{"user": ourUser, "bot_id": ourBot, "app_id": ourApp})
	edit := fields{"type": "message", "subtype": "message_changed", "hidden": true, "channel": ourChannel, "ts": ago(0)}
	for name, event := range map[string]fields{
		"an edit of ours":    edit.with(fields{"message": ours, "previous_message": ours}),
		"a deletion of ours": edit.with(fields{"subtype": "message_deleted", "previous_message": ours}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in, _ := newIntake(t)
			var log lockedBuffer
			in.log = slog.New(slog.NewTextHandler(&log, nil))
			if _, err := in.take(t.Context(), envelope{Type: "events_api", Payload: wrap(event).raw()}); err != nil || log.String() != "" {
				t.Errorf("%v, the log has %s", err, log.String())
			}
		})
	}
}

// At the start nothing has changed yet.
func TestTheLogTellsOfAPersonOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.AddUser(slacktest.User{ID: colleague, Name: "colleague", Restricted: true})
	var log lockedBuffer
	p := newPeople(newWeb(s.URL(), s.BotToken()), s.TeamID(), []string{operator, colleague}, slog.New(slog.NewTextHandler(&log, nil)))
	const barred = `level=WARN msg="a person on the allowlist may not act" person=U0COLLEAGUE barred="is a guest's (is_restricted)"`
	for range 2 {
		if err := p.refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, barred) {
			t.Errorf("the log has %s", got)
		}
	}
	s.AddUser(slacktest.User{ID: colleague, Name: "colleague"})
	if err := p.refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	const changed = `level=WARN msg="what Slack says of a person on the allowlist has changed" person=U0COLLEAGUE barred=""`
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, changed) {
		t.Errorf("the log has %s", got)
	}
}
