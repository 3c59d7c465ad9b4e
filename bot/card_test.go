package bot

import (
	"strings"
	"testing"
	"time"

	"bgbot/internal/store"
)

// With two cards open in a thread, nobody is told to answer the one that they did not mean.
func TestAnAnswerThatIsNotTakenNamesTheCardsThatItMayMean(t *testing.T) {
	t.Parallel()
	i := newIncident(t)
	asked := time.Now()
	for n, c := range []store.Confirmation{{Code: "4F7Q", Verb: "cycle", Origin: "agent"}, {Code: "K7PM", Verb: "stop", Origin: "person"}} {
		c.Nonce, c.VMID, c.Place, c.Requester = c.Code, 102, store.Place(thread), operator.String()
		c.Made, c.Expires = asked.Add(time.Duration(n)), asked.Add(time.Minute)
		i.Store.AddConfirmation(t.Context(), c)
	}
	const both = "2 cards are open here. Nothing was done, and nothing was passed on. To answer one, type:" +
		"\nCycle devvm: `confirm 4F7Q` or `cancel 4F7Q`\nStop devvm: `confirm K7PM` or `cancel K7PM`"
	one := func(code string) string {
		return "A card is open. To answer it, type `confirm " + code + "` or `cancel " + code + "`. Nothing was done, and nothing was passed on."
	}
	elsewhere := thread
	elsewhere.Thread = "another"
	for _, c := range []struct {
		text  string
		where Place
		want  string
	}{
		{"4F7Q", thread, one("4F7Q")},
		{"k7pm", thread, one("K7PM")},
		{"confirm: 4F7Q", thread, one("4F7Q")},
		{"4F7Q yes please", thread, one("4F7Q")},
		{"4F7Q", elsewhere, one("4F7Q")}, // "confirm 4F7Q" would be taken there, too
		{"yes", thread, both},
		{"4F7R", thread, both}, // misread
		{"yes", elsewhere, ""},
		{"what is 4F7Q for, by the way?", thread, ""},
	} {
		m := Message{Place: c.where, From: operator, Text: c.text}
		if got := i.meant(m, parse(m, nil)); got != c.want {
			t.Errorf("%q is answered\n%s\nwant\n%s", c.text, got, c.want)
		}
	}
	i.types("confirm: 4F7Q")
	i.shows(strings.ReplaceAll(one("4F7Q"), ".", `\.`))
	if i.prompts() != "" {
		t.Errorf("the agent was told %s", i.prompts())
	}
}
