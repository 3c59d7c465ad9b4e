package bot

import (
	"context"
	"errors"
	"time"
)

// A service forgets after a while that somebody is at work (Slack after 2 min), and may do so at each message.
const (
	attendEvery = 90 * time.Second
	attendLimit = 5 * time.Second // for one call: it is decoration
)

// attend shows beside a thread that the bot is at work there, until over ends; each sign on again shows it anew. done is
// closed when it is taken away. Nobody waits for it but its owner, and its failures are only logged.
func (d *delivery) attend(over context.Context, p Place, again <-chan struct{}) (done <-chan struct{}) {
	closed := make(chan struct{})
	chat, ok := d.chat.(Attentive)
	if !ok {
		close(closed)
		return closed
	}
	go func() {
		defer close(closed)
		var silent time.Time
		show := func(status string) bool {
			if time.Now().Before(silent) {
				return true
			}
			ctx, cancel := context.WithTimeout(context.WithoutCancel(over), attendLimit)
			defer cancel()
			err := chat.Working(ctx, p, status)
			if busy, ok := errors.AsType[*Busy](err); ok {
				silent = time.Now().Add(busy.After)
			}
			if err != nil {
				d.log.DebugContext(ctx, "the chat does not show that I work", "place", p.String(), "err", err)
			}
			return !final(err)
		}
		for show("is working …") {
			select {
			case <-time.After(attendEvery):
			case <-again:
			case <-over.Done():
				show("")
				return
			}
		}
	}()
	return closed
}
