package slack

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"bgbot/bot"
)

// Reasons in Slack's disconnect frames that need more than a successor. The others are warning, some 10 s ahead, and
// refresh_requested, which also comes without a warning every few hours.
const (
	linkTooMany  = "too_many_websockets" // undocumented (node-slack-sdk#1654)
	linkDisabled = "link_disabled"
	linkWarning  = "warning"
)

// What waiting cannot mend, as the end of the link and as people in the channel read it.
const (
	switchOn    = "Switch it on at api.slack.com/apps, your app, Socket Mode, then start bgbot again; if the app was removed, install it anew and put its new tokens into slack.app_token_file and slack.bot_token_file."
	switchedOff = "slack: Socket Mode is switched off for this app. " + switchOn
)

// lifeUsed is the part of its announced life after which a socket is replaced.
const lifeUsed = 0.9

// greet notes a hello: from here on the socket hears.
func (l *link) greet(s *socket, f socketFrame) {
	select {
	case <-s.greeted:
		return // a second hello says nothing new
	default:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.hears() {
		l.owe(l.deaf)
	}
	l.sockets[s], l.told = true, false
	s.life = time.Duration(lifeUsed * float64(time.Duration(f.DebugInfo.ConnectionTime)*time.Second))
	if recheck := l.count(f.NumConnections); recheck > 0 && (s.life == 0 || recheck < s.life) {
		s.life = recheck
	}
	close(s.greeted)
}

// count compares Slack's number of connections with ours and tells people when somebody else's come or go, since each of
// them takes events away from us. It returns when to look again, which only a new hello can, or 0. Called with mu held.
func (l *link) count(connections int) time.Duration {
	l.ghosts = slices.DeleteFunc(l.ghosts, func(t time.Time) bool { return time.Since(t) > l.timing.ghost })
	surplus := connections - len(l.sockets)
	if surplus <= 0 {
		l.doubts = 0
		if l.foreign > 0 {
			l.foreign = 0
			l.say("✅ No other program uses my Slack app token any more: every message reaches me again.")
		}
		return 0
	}
	if surplus > len(l.ghosts) {
		known := l.foreign > 0
		if l.foreign = surplus; !known { // others replace their sockets too, and have one more for a while: no news
			l.warn(connections)
		}
	}
	l.doubts++
	return l.timing.ghost << min(l.doubts-1, 5)
}

// warn tells people of connections that are not ours. Called with mu held.
func (l *link) warn(connections int) {
	l.say(fmt.Sprintf("⚠️ Another program uses my Slack app token, and takes messages and clicks away from me.\n"+
		"Slack counts %d connections, and I hold %d. End the other program, or give each bot a Slack app of its own (slack.app_token_file). After a crash an old connection may count for some minutes; I look again and say when it is gone.", connections, len(l.sockets)))
}

// recount replaces the socket, since only a hello says how many connections there are. Whoever came after ours may be met
// in another way first.
func (l *link) recount() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.foreign > 0 || l.doubts > 0 { // it is looked at again anyway; each look before that leaves a socket that counts for a while
		return
	}
	select {
	case l.again <- struct{}{}:
	default:
	}
}

// part notes a disconnect frame. After a warning the socket goes on hearing; after any other reason that is not certain.
func (l *link) part(s *socket, reason string) {
	if reason != linkWarning {
		l.mu.Lock()
		if l.sockets[s] {
			l.sockets[s] = false
			if !l.hears() { // else the others get what comes from now on
				l.deaf = s.whole()
			}
		}
		l.mu.Unlock()
	}
	switch reason {
	case linkTooMany:
		l.crowd()
	case linkDisabled:
		if l.wasConnected() { // else each start by a supervisor would ring every phone
			l.say("🔴 I hear nothing here any more: Socket Mode is switched off for my Slack app.\n" + switchOn)
		}
		l.end(&bot.Fatal{Reason: switchedOff})
	}
	if s.parting() == "" { // refresh_requested follows a warning
		s.reason = cmp.Or(reason, "no reason given")
		close(s.leaving)
	}
}

// crowd tells people, once until a socket has stayed healthy again, that there are too many connections.
func (l *link) crowd() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.crowded {
		l.crowded = true
		l.say("⚠️ Slack has ended a connection of mine, since my app has too many of them.\nOther programs on the same app token (slack.app_token_file) must be ended. I try again, more slowly.")
	}
}

// settle follows a socket that stayed healthy.
func (l *link) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.crowded = false
}

// lost notes the end of a socket. What Slack sent on it last was perhaps not heard, also while others hear: three attempts
// at one message may all meet a socket that is about to be missed.
func (l *link) lost(s *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	heard, known := l.sockets[s]
	if !known {
		return
	}
	delete(l.sockets, s)
	l.ghosts = append(l.ghosts, time.Now())
	switch {
	case !heard:
	case l.hears():
		l.owe(s.whole())
	default:
		l.deaf = s.whole()
	}
}

// hears says that there is a socket on which events come. Called with mu held.
func (l *link) hears() bool {
	for _, hears := range l.sockets {
		if hears {
			return true
		}
	}
	return false
}

// owe asks for what came since then to be read back. Called with mu held.
func (l *link) owe(since time.Time) {
	if l.gap == nil || since.Before(*l.gap) {
		l.gap = &since
	}
	select {
	case l.owed <- struct{}{}:
	default:
	}
}

// readBack has gaps read back, one at a time.
func (l *link) readBack(ctx context.Context, gap func(context.Context, time.Time)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.owed:
		}
		l.mu.Lock()
		since := l.gap
		l.gap = nil
		l.mu.Unlock()
		if since != nil {
			gap(ctx, *since)
		}
	}
}

// tellDeaf tells people, once, that nothing has been heard for long: they may still read, and must not wait in vain.
func (l *link) tellDeaf() {
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.deaf
	if since.IsZero() {
		since = l.started
	}
	if l.told || l.hears() || time.Since(since) < l.timing.patient {
		return
	}
	l.told = true
	l.say("⚠️ I have heard nothing here for " + span(time.Since(since)) + ": Slack gives me no connection.\n" +
		"I keep trying, and read what was written meanwhile as soon as I am back; the log says why. `bgbot console` works without Slack.")
}

// say logs a sentence and has it told to people. It never waits: it is called where frames are read.
func (l *link) say(text string) {
	l.log.Warn("the link to slack has something to tell", "text", text)
	select {
	case l.news <- text:
	default: // people have enough to read
	}
}

// tell tells people what there is to say, at the end too.
func (l *link) tell(ctx context.Context, alarm func(context.Context, string)) {
	one := func(text string) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.timing.take)
		defer cancel()
		alarm(ctx, text)
	}
	for {
		select {
		case text := <-l.news:
			one(text)
		case <-ctx.Done():
			for len(l.news) > 0 { // nobody else takes from it
				one(<-l.news)
			}
			return
		}
	}
}

// connected says that events come in.
func (l *link) connected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hears()
}

// wasConnected says that events have come in since the process started.
func (l *link) wasConnected() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.sockets) > 0 || !l.deaf.IsZero()
}

// held lists the sockets that said hello and have not ended.
func (l *link) held() []*socket {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []*socket
	for s := range l.sockets {
		all = append(all, s)
	}
	return all
}
