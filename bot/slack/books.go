package slack

import (
	"context"
	"time"
)

// begin takes up where an earlier process was, or starts now: at the very first start nothing is read back.
func (in *intake) begin(ctx context.Context, public bool) {
	in.ledger.load(in.cursor(ctx, in.cursorKey()), in.clock.now())
	if last := in.ledger.alive(in.clock.now()); !last.IsZero() {
		in.lastAlive = in.clock.ours(last)
	}
	if public {
		in.notice(ctx, "public/"+in.channel, "⚠️ This channel is public: everybody in the workspace can read what is said here. A private channel is better (slack.channel).")
	}
}

func (in *intake) cursorKey() string { return "read/" + in.channel }

// bookkeeping keeps the ledger until ctx ends. It is not in the way of a message: losing a second of it costs a wrong
// count of messages that were read back, since the core itself knows each of them.
func (in *intake) bookkeeping(ctx context.Context, connected func() bool) {
	ticker := time.NewTicker(in.pace.keep)
	defer ticker.Stop()
	noted := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if time.Since(noted) >= in.pace.alive && connected() {
			noted = time.Now()
			in.ledger.alive(in.clock.now())
		}
		in.ledger.keep(ctx, in.setCursor, in.cursorKey())
	}
}

// end keeps the ledger for the next process.
func (in *intake) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	in.ledger.alive(in.clock.now())
	in.ledger.keep(ctx, in.setCursor, in.cursorKey())
}

// alarm tells the channel something about the connection.
func (in *intake) alarm(ctx context.Context, text string) {
	in.notice(ctx, "link/"+stamp(time.Now()), text)
}
