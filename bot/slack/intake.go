package slack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"bgbot/bot"
)

// intake turns what Slack delivers into messages for the core: record, then acknowledge, then act. Only what passes every
// check of [home] becomes a message; all else is acknowledged, logged and dropped. Its methods may be called from many
// goroutines.
type intake struct {
	home
	web          *web
	people       *people
	channelState *channel
	clock        *clock
	ledger       *ledger
	handle       func(context.Context, bot.Message) error
	post         func(context.Context, bot.Place, bot.Text) (string, error)
	draw         func(ctx context.Context, person string, t bot.Text) error // somebody's page
	log          *slog.Logger
	pace         pace
	stale        chan struct{} // asks for a look at the channel now; capacity 1
	recount      func()        // has Slack's connections counted anew
	audience     chan struct{} // asks for a look at who can read it now; capacity 1
	gaps         *gaps
	lastAlive    time.Time // when an earlier process was connected last; zero if there was none
	cursor       func(ctx context.Context, key string) string
	setCursor    func(ctx context.Context, key, value string)
	taken        recent // commands and clicks that the core has, for their late second deliveries
	refusals     refusals
	arrivals     arrivals

	ctx context.Context // of what happens behind an acknowledgement
	wg  sync.WaitGroup  // everything that happens there
}

// behind runs f after the acknowledgement, in a goroutine that Run waits for.
func (in *intake) behind(f func(ctx context.Context)) {
	in.wg.Go(func() {
		ctx, cancel := context.WithTimeout(in.ctx, httpLimit)
		defer cancel()
		f(ctx)
	})
}

// look asks for a look at the channel now.
func (in *intake) look() { wakeUp(in.stale) }

// wakeUp makes whoever waits for wake go on, now or when they wait next.
func wakeUp(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// take handles one envelope. An error means that the core did not record it: it must not be acknowledged then.
func (in *intake) take(ctx context.Context, e envelope) (answer []byte, err error) {
	o, err := objectFrom(e.Payload)
	if err != nil {
		in.log.WarnContext(ctx, "an envelope that nobody can read was dropped", "type", e.Type, "err", err)
		return nil, nil
	}
	var m bot.Message
	switch e.Type {
	case "events_api":
		m, err = in.event(ctx, o)
	case "slash_commands":
		m, err = in.slash(o, e)
	case "interactive":
		m, err = in.click(o)
	default:
		err = refuse("an unknown kind of envelope")
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		in.log.Log(ctx, refused.level, "not acted on", "type", e.Type, "why", refused.why, "from", m.From.ID, "attempt", e.Attempt)
		said := o.in("event")
		if e.Type == "events_api" && !refused.later {
			in.final(said)
		}
		return in.tell(e, o, m, refused, func() { in.final(said) }), nil
	}
	if m.ID == "" {
		return nil, nil
	}
	if err := in.handle(ctx, m); err != nil {
		return nil, err
	}
	in.took(e, m)
	return nil, nil
}

// took remembers what the core has recorded, of people whose words would be read back.
func (in *intake) took(e envelope, m bot.Message) {
	if !in.people.listed(m.From.ID) {
		return
	}
	in.ledger.took(m)
	if e.Type != "events_api" {
		in.taken.add(m.ID)
	}
}

// final notes that a message which was refused is not to be read back: what was checked around it the history does not
// have, and "nothing was done, say it again" must stay true.
func (in *intake) final(said object) {
	ts := said.text("ts")
	if _, ok := moment(ts); ok && said.text("channel") == in.channel && in.people.listed(said.text("user")) {
		in.ledger.refused(ts)
	}
}

// tell says to the person alone why nothing happens, in the way that the envelope has for that, and then calls told.
func (in *intake) tell(e envelope, o object, m bot.Message, no *refusal, told func()) (answer []byte) {
	say := no.say
	switch {
	case say == "":
	case e.Type == "slash_commands":
		answer, _ = json.Marshal(whisper(say))
	case m.Home || e.Type == "interactive" && m.Card == "": // the page has no response_url; what it shows must not look current
		if in.people.listed(m.From.ID) {
			in.behind(func(ctx context.Context) {
				if err := in.draw(ctx, m.From.ID, bot.Text{Body: say}); err != nil {
					in.log.WarnContext(ctx, "a refusal was not drawn", "err", err)
				}
			})
		}
	case e.Type == "interactive":
		in.behind(func(ctx context.Context) { in.respond(ctx, o.text("response_url"), say) })
	case in.people.listed(m.From.ID): // strangers could make us talk
		if say = in.refusals.bound(m.From.ID, no.why, say, time.Now()); say == "" {
			return nil
		}
		in.behind(func(ctx context.Context) {
			if _, err := in.post(ctx, m.Place, bot.Text{Body: say, Only: m.From.ID}); err != nil {
				in.log.WarnContext(ctx, "a refusal was not delivered", "err", err)
				return
			}
			told()
		})
	}
	return answer
}

// refusals count how often each person on the allowlist was told each reason, since the core does not pace it. They must
// hear why nothing happens, and who keeps on typing has read it.
type refusals struct {
	mu   sync.Mutex // guards told
	told map[reason]telling
}

// reason is why somebody was refused: a [refusal]'s, of which there are a few dozen.
type reason struct{ person, why string }

// telling is how often somebody was told a reason, and when last.
type telling struct {
	times int
	last  time.Time
}

// A reason is told three times, and then for ten minutes no more.
const (
	refusalsAtMost = 3
	refusalsRest   = 10 * time.Minute
)

// bound is what somebody is told now instead of say, and counts it: "" if they have heard it often enough, and the last
// time it says that.
func (r *refusals) bound(person, why, say string, now time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.told == nil {
		r.told = map[reason]telling{}
	}
	key := reason{person, why}
	t := r.told[key]
	if now.Sub(t.last) > refusalsRest {
		t.times = 0
	}
	if t.times == refusalsAtMost {
		return ""
	}
	t.times, t.last = t.times+1, now
	r.told[key] = t
	if t.times == refusalsAtMost {
		say += fmt.Sprintf("\nFor the next %d minutes I do not say this again, however often it happens.", int(refusalsRest.Minutes()))
	}
	return say
}

// whisper is a text that one person sees.
func whisper(text string) map[string]any {
	return map[string]any{"response_type": "ephemeral", "replace_original": false, "text": text}
}

// recent remembers ids for as long as Slack may send the same again.
type recent struct {
	mu  sync.Mutex // guards ids
	ids map[string]time.Time
}

// redelivery is longer than Slack keeps sending the same thing: at once, after a minute, after five more.
const redelivery = 15 * time.Minute

func (r *recent) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids == nil {
		r.ids = map[string]time.Time{}
	}
	for old, at := range r.ids {
		if time.Since(at) > redelivery {
			delete(r.ids, old)
		}
	}
	r.ids[id] = time.Now()
}

func (r *recent) has(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.ids[id]
	return ok
}
