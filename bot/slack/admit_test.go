package slack

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"bgbot/auth"
	"bgbot/bot"
)

// The workspace of these tests.
const (
	ourTeam, ourApp, ourUser, ourBot = "T0HOME", "A0OURS", "U0BOT", "B0BOT"
	ourChannel                       = "C0INCIDENT"
	operator, colleague, stranger    = "U0OPERATOR", "U0COLLEAGUE", "U0STRANGER"
)

// fields is a JSON object under construction.
type fields map[string]any

// with is a copy with other fields; nil takes one away.
func (f fields) with(more fields) fields {
	c := maps.Clone(f)
	for k, v := range more {
		if v == nil {
			delete(c, k)
			continue
		}
		c[k] = v
	}
	return c
}

func (f fields) raw() json.RawMessage {
	data, err := json.Marshal(f)
	if err != nil {
		panic(err)
	}
	return data
}

func ago(d time.Duration) string { return stamp(time.Now().Add(-d)) }

// message is what Slack sends when a person types in our channel.
func typed() fields {
	ts := ago(time.Second)
	return fields{
		"type": "message", "user": operator, "text": "devvm is frozen", "ts": ts, "event_ts": ts, "channel": ourChannel,
		"channel_type": "group", "team": ourTeam, "client_msg_id": "5b3c", "blocks": []fields{{"type": "rich_text"}},
	}
}

func wrap(event fields) fields {
	return fields{
		"type": "event_callback", "team_id": ourTeam, "context_team_id": ourTeam, "context_enterprise_id": nil, "api_app_id": ourApp,
		"event": event, "event_id": "Ev1", "event_time": time.Now().Unix(), "is_ext_shared_channel": false,
		"authorizations": []fields{{"enterprise_id": nil, "team_id": ourTeam, "user_id": ourUser, "is_bot": true, "is_enterprise_install": false}},
	}
}

func typedCommand() fields {
	return fields{
		"team_id": ourTeam, "team_domain": "home", "channel_id": ourChannel, "channel_name": "privategroup", "user_id": operator,
		"user_name": "op", "command": "/vm", "text": "status", "api_app_id": ourApp, "is_enterprise_install": "false",
		"response_url": "https://hooks.slack.com/commands/1", "trigger_id": "13345224609.738474920.8088930838d88f008e0",
	}
}

func pressedButton() fields {
	return fields{
		"type": "block_actions", "user": fields{"id": operator, "username": "op", "team_id": ourTeam}, "api_app_id": ourApp,
		"team": fields{"id": ourTeam, "domain": "home"}, "channel": fields{"id": ourChannel, "name": "privategroup"},
		"container":    fields{"type": "message", "message_ts": "1700000100.000100", "channel_id": ourChannel, "is_ephemeral": false, "thread_ts": "1700000000.000100"},
		"message":      fields{"type": "message", "ts": "1700000100.000100", "user": ourUser, "bot_id": ourBot, "app_id": ourApp, "team": ourTeam},
		"response_url": "https://hooks.slack.com/actions/1", "trigger_id": "1.2.3", "is_enterprise_install": false,
		"actions": []fields{{"type": "button", "action_id": "choice-0", "block_id": "b", "value": "stop:t1", "action_ts": ago(time.Second)}},
	}
}

// recorder is the core: it notes what it was given, and does nothing.
type recorder struct {
	mu   sync.Mutex // guards what follows
	news chan struct{}
	got  []bot.Message
	said []bot.Text
	fail error // of the next message
}

func (r *recorder) handle(_ context.Context, m bot.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.fail; err != nil {
		r.fail = nil
		return err
	}
	r.got = append(r.got, m)
	close(r.news)
	r.news = make(chan struct{})
	return nil
}

func newRecorder() *recorder { return &recorder{news: make(chan struct{})} }

// await is the first message for which is says yes, whether it came already or not.
func (r *recorder) await(t *testing.T, what string, is func(bot.Message) bool) bot.Message {
	t.Helper()
	deadline := time.After(patientTest)
	for {
		r.mu.Lock()
		i, news := slices.IndexFunc(r.got, is), r.news
		if i >= 0 {
			defer r.mu.Unlock()
			return r.got[i]
		}
		r.mu.Unlock()
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("%s: nothing of that came; what came: %+v", what, r.all())
		}
	}
}

func (r *recorder) all() []bot.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *recorder) post(_ context.Context, _ bot.Place, t bot.Text) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, t)
	return "", nil
}

func (r *recorder) draw(ctx context.Context, person string, t bot.Text) error {
	_, err := r.post(ctx, bot.Place{}, bot.Text{Body: t.Body, Only: "the page of " + person})
	return err
}

// newIntake is an intake whose operator and colleague are on the allowlist, known, and in good standing.
func newIntake(t *testing.T) (*intake, *recorder) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	r := newRecorder()
	w := newWeb("http://127.0.0.1:1/", "")
	p := newPeople(w, ourTeam, []string{operator, colleague}, log)
	for _, id := range p.ids {
		p.known[id] = record{at: time.Now()}
	}
	p.names[operator] = "Op"
	in := &intake{
		home: home{team: ourTeam, app: ourApp, user: ourUser, bot: ourBot, channel: ourChannel}, web: w, people: p,
		channelState: &channel{at: time.Now()}, clock: w.clock, ledger: &ledger{}, gaps: &gaps{wake: make(chan struct{}, 1)},
		stale: make(chan struct{}, 1), handle: r.handle, post: r.post, draw: r.draw, log: log, ctx: t.Context(), pace: slackPace,
	}
	in.ledger.load("", time.Now())
	return in, r
}

// give sends a payload through take and returns what reached the core, and the answer in the acknowledgement.
func give(t *testing.T, kind string, payload json.RawMessage, attempt int) ([]bot.Message, string) {
	t.Helper()
	in, r := newIntake(t)
	answer, err := in.take(t.Context(), envelope{ID: "e1", Type: kind, Payload: payload, Attempt: attempt, AcceptsPayload: true, Received: time.Now()})
	if err != nil {
		t.Fatalf("not acknowledged: %v", err)
	}
	in.wg.Wait()
	return r.got, string(answer)
}

func TestWhatActs(t *testing.T) {
	t.Parallel()
	root := ago(time.Hour)
	for name, c := range map[string]struct {
		kind    string
		payload fields
		want    bot.Message
	}{
		"a message begins a thread": {"events_api", wrap(typed()), bot.Message{Text: "devvm is frozen"}},
		"a reply":                   {"events_api", wrap(typed().with(fields{"thread_ts": root, "parent_user_id": operator})), bot.Message{Text: "devvm is frozen", Place: bot.Place{Thread: root}}},
		"a message whose optional fields are empty": {"events_api", wrap(typed().with(fields{
			"bot_id": "", "edited": json.RawMessage("null"), "hidden": false, "subtype": json.RawMessage("null"), "user_team": ourTeam, "source_team": ourTeam, "team": nil, "client_msg_id": nil,
		})), bot.Message{Text: "devvm is frozen"}},
		"a photo with words":             {"events_api", wrap(typed().with(fields{"subtype": "file_share", "files": []fields{{"id": "F1"}}})), bot.Message{Text: "devvm is frozen", Files: 1}},
		"our name in front":              {"events_api", wrap(typed().with(fields{"text": "<@" + ourUser + ">: stop"})), bot.Message{Text: "stop"}},
		"Slack's escapes":                {"events_api", wrap(typed().with(fields{"text": "grep -c &lt;x&gt; a &amp;&amp; b"})), bot.Message{Text: "grep -c <x> a && b"}},
		"what Slack took for a link":     {"events_api", wrap(typed().with(fields{"text": "restart <http://foo.social|foo.social>, see <https://a.example/x?a=1&amp;b=2>"})), bot.Message{Text: "restart foo.social, see https://a.example/x?a=1&b=2"}},
		"people and channels":            {"events_api", wrap(typed().with(fields{"text": "ask <@" + operator + "> in <#C1|ops> <!here>"})), bot.Message{Text: "ask @Op in #ops @here"}},
		"somebody whom the core refuses": {"events_api", wrap(typed().with(fields{"user": stranger})), bot.Message{Text: "devvm is frozen", From: auth.Person{ID: stranger}}},
		"a command":                      {"slash_commands", typedCommand(), bot.Message{Text: "/vm status"}},
		"a command alone":                {"slash_commands", typedCommand().with(fields{"text": "", "is_enterprise_install": nil}), bot.Message{Text: "/vm"}},
		"a click":                        {"interactive", pressedButton(), bot.Message{Click: "stop:t1", Card: "1700000100.000100", Place: bot.Place{Thread: "1700000000.000100"}}},
		"a click in the channel": {
			"interactive", pressedButton().with(fields{"container": fields{"type": "message", "message_ts": "1700000100.000100", "channel_id": ourChannel, "thread_ts": "1700000100.000100"}}),
			bot.Message{Click: "stop:t1", Card: "1700000100.000100"},
		},
		"a click where an organization has several workspaces": {
			"interactive", pressedButton().with(fields{"team": json.RawMessage("null")}),
			bot.Message{Click: "stop:t1", Card: "1700000100.000100", Place: bot.Place{Thread: "1700000000.000100"}},
		},
		"a click on our page": {"interactive", pressedButton().with(fields{
			"container": fields{"type": "view", "view_id": "V1"}, "view": fields{"type": "home", "app_id": ourApp, "bot_id": ourBot, "team_id": ourTeam}, "channel": nil, "message": nil,
		}), bot.Message{Click: "stop:t1"}},
		"our page is opened": {"events_api", wrap(fields{"type": "app_home_opened", "user": operator, "channel": "D1", "tab": "home", "event_ts": ago(0)}), bot.Message{Home: true}},
		"Slack holds events back": {
			"events_api",
			fields{"type": "app_rate_limited", "team_id": ourTeam, "api_app_id": ourApp, "minute_rate_limited": 1518467820},
			bot.Message{Notice: "⚠️ Slack holds back what is said here, since it has more than 30,000 events an hour for me. I read the channel again every few minutes; `bgbot console` is faster."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, answer := give(t, c.kind, c.payload.raw(), 0)
			if len(got) != 1 || answer != "" {
				t.Fatalf("want one message and no answer, got %+v, %q", got, answer)
			}
			m, want := got[0], c.want
			want.Place.Chat, want.Place.Channel = "slack", ourChannel
			event, _ := c.payload["event"].(fields)
			if ts, ok := event["ts"].(string); ok && want.Place.Thread == "" {
				want.Place.Thread, want.Opens = ts, true
			}
			if want.Notice == "" {
				want.From.Chat = "slack"
				if want.From.ID == "" {
					want.From.ID = operator
				}
				want.Name = map[string]string{operator: "Op"}[want.From.ID]
				if want.Name == "" {
					want.Name = want.From.ID
				}
			}
			if m.ID == "" || time.Since(m.At) > young { // tests wait for their turn
				t.Errorf("ID %q, at %s", m.ID, m.At)
			}
			want.ID, want.At, want.Opens = m.ID, m.At, m.Place.Thread == m.ID
			if m != want {
				t.Errorf("got  %+v\nwant %+v", m, want)
			}
		})
	}
}

func TestWhatDoesNotAct(t *testing.T) {
	t.Parallel()
	events := map[string]fields{
		"a bot's message":                         wrap(typed().with(fields{"subtype": "bot_message", "bot_id": "B1", "user": nil})),
		"our own message":                         wrap(typed().with(fields{"user": ourUser, "bot_id": ourBot, "app_id": ourApp})),
		"an app that posts as the operator":       wrap(typed().with(fields{"bot_id": "B1", "app_id": "A1", "client_msg_id": nil})),
		"the same, told by bot_id alone":          wrap(typed().with(fields{"bot_id": "B1"})),
		"the same, told by app_id alone":          wrap(typed().with(fields{"app_id": "A1"})),
		"our own app that posts as the operator":  wrap(typed().with(fields{"app_id": ourApp})),
		"the same, told by bot_profile alone":     wrap(typed().with(fields{"bot_profile": fields{"id": "B1"}})),
		"a workflow's post":                       wrap(typed().with(fields{"workflow_id": "Wf1"})),
		"a webhook with a name of its own":        wrap(typed().with(fields{"username": "operator"})),
		"a message that is edited already":        wrap(typed().with(fields{"edited": fields{"user": operator, "ts": ago(0)}})),
		"a hidden message":                        wrap(typed().with(fields{"hidden": true})),
		"bot_id of another kind":                  wrap(typed().with(fields{"bot_id": 7})),
		"an edit":                                 wrap(fields{"type": "message", "subtype": "message_changed", "hidden": true, "channel": ourChannel, "ts": ago(0), "message": typed(), "previous_message": typed()}),
		"an edit that names a user":               wrap(fields{"type": "message", "subtype": "message_changed", "user": operator, "text": "vm reset", "channel": ourChannel, "ts": ago(0), "message": typed()}),
		"a deletion":                              wrap(fields{"type": "message", "subtype": "message_deleted", "channel": ourChannel, "ts": ago(0), "previous_message": typed()}),
		"message_replied":                         wrap(typed().with(fields{"subtype": "message_replied"})),
		"a reply that is sent to the channel too": wrap(typed().with(fields{"subtype": "thread_broadcast", "thread_ts": ago(time.Hour)})),
		"/me":                                        wrap(typed().with(fields{"subtype": "me_message"})),
		"somebody joined":                            wrap(typed().with(fields{"subtype": "channel_join"})),
		"a new topic":                                wrap(typed().with(fields{"subtype": "group_topic"})),
		"a subtype that nobody knows":                wrap(typed().with(fields{"subtype": "brand_new"})),
		"a subtype of another kind":                  wrap(typed().with(fields{"subtype": 3})),
		"a person from elsewhere":                    wrap(typed().with(fields{"team": "T0OTHER"})),
		"the same, told by user_team":                wrap(typed().with(fields{"user_team": "T0OTHER"})),
		"the same, told by source_team":              wrap(typed().with(fields{"source_team": "T0OTHER"})),
		"a team of another kind":                     wrap(typed().with(fields{"team": []string{ourTeam}})),
		"another workspace":                          wrap(typed()).with(fields{"team_id": "T0OTHER"}),
		"no workspace":                               wrap(typed()).with(fields{"team_id": nil}),
		"another context":                            wrap(typed()).with(fields{"context_team_id": "T0OTHER"}),
		"another app":                                wrap(typed()).with(fields{"api_app_id": "A0OTHER"}),
		"no app":                                     wrap(typed()).with(fields{"api_app_id": nil}),
		"authorized elsewhere":                       wrap(typed()).with(fields{"authorizations": []fields{{"team_id": "T0OTHER", "user_id": ourUser}}}),
		"authorized by a person":                     wrap(typed()).with(fields{"authorizations": []fields{{"team_id": ourTeam, "user_id": operator}}}),
		"authorized by an organization":              wrap(typed()).with(fields{"authorizations": []fields{{"team_id": ourTeam, "user_id": ourUser, "is_enterprise_install": true}}}),
		"authorized by nobody":                       wrap(typed()).with(fields{"authorizations": []fields{}}),
		"a shared channel":                           wrap(typed()).with(fields{"is_ext_shared_channel": true}),
		"not known whether the channel is shared":    wrap(typed()).with(fields{"is_ext_shared_channel": "maybe"}),
		"another channel":                            wrap(typed().with(fields{"channel": "C0OTHER"})),
		"a direct message":                           wrap(typed().with(fields{"channel": "D0OPERATOR", "channel_type": "im"})),
		"no channel":                                 wrap(typed().with(fields{"channel": nil})),
		"nobody":                                     wrap(typed().with(fields{"user": nil})),
		"a user of another kind":                     wrap(typed().with(fields{"user": fields{"id": operator}})),
		"USER is not user":                           wrap(typed().with(fields{"user": nil, "USER": operator})),
		"a user inside only":                         wrap(typed().with(fields{"user": nil, "message": typed()})),
		"a user with a space":                        wrap(typed().with(fields{"user": operator + " "})),
		"Slackbot":                                   wrap(typed().with(fields{"user": "USLACKBOT", "team": "T00"})),
		"no time":                                    wrap(typed().with(fields{"ts": nil})),
		"a time that is none":                        wrap(typed().with(fields{"ts": "yesterday"})),
		"a time of another kind":                     wrap(typed().with(fields{"ts": 1700000000.000100})),
		"the day before yesterday":                   wrap(typed().with(fields{"ts": ago(48 * time.Hour)})),
		"tomorrow":                                   wrap(typed().with(fields{"ts": ago(-24 * time.Hour)})),
		"a reply before what it replies to":          wrap(typed().with(fields{"thread_ts": ago(-time.Minute)})),
		"a thread that is none":                      wrap(typed().with(fields{"thread_ts": "x"})),
		"a photo without words":                      wrap(typed().with(fields{"subtype": "file_share", "text": ""})),
		"no words":                                   wrap(typed().with(fields{"text": "  "})),
		"app_mention, which comes besides a message": wrap(typed().with(fields{"type": "app_mention"})),
		"a reaction":                                 wrap(fields{"type": "reaction_added", "user": operator, "reaction": "fire"}),
		"an event without a type":                    wrap(fields{"user": operator}),
		"no event":                                   wrap(nil),
		"url_verification":                           {"type": "url_verification", "challenge": "x"},
		"another app's rate limit":                   {"type": "app_rate_limited", "team_id": ourTeam, "api_app_id": "A0OTHER"},
		"our page in a tab that we do not have":      wrap(fields{"type": "app_home_opened", "user": operator, "tab": "messages", "event_ts": ago(0)}),
		"our page, opened by nobody":                 wrap(fields{"type": "app_home_opened", "tab": "home", "event_ts": ago(0)}),
		"our page, opened yesterday":                 wrap(fields{"type": "app_home_opened", "user": operator, "tab": "home", "event_ts": ago(48 * time.Hour)}),
		"an operator joins":                          wrap(fields{"type": "member_joined_channel", "user": colleague, "channel": ourChannel, "team": ourTeam, "event_ts": ago(0)}),
		"a stranger joins elsewhere":                 wrap(fields{"type": "member_joined_channel", "user": stranger, "channel": "C0OTHER", "team": ourTeam, "event_ts": ago(0)}),
	}
	commands := map[string]fields{
		"a command in another channel":       typedCommand().with(fields{"channel_id": "C0OTHER"}),
		"a command in a direct message":      typedCommand().with(fields{"channel_id": "D0OPERATOR"}),
		"a command in another workspace":     typedCommand().with(fields{"team_id": "T0OTHER"}),
		"another app's command":              typedCommand().with(fields{"api_app_id": "A0OTHER"}),
		"a command of an organization's app": typedCommand().with(fields{"is_enterprise_install": "true"}),
		"another command":                    typedCommand().with(fields{"command": "/deploy"}),
		"a command from nobody":              typedCommand().with(fields{"user_id": nil}),
		"a command without a trigger":        typedCommand().with(fields{"trigger_id": nil}),
	}
	button := func(more fields) fields {
		action := fields{"type": "button", "action_id": "choice-0", "block_id": "b", "value": "stop:t1", "action_ts": ago(time.Second)}.with(more)
		return pressedButton().with(fields{"actions": []fields{action}})
	}
	box := func(more fields) fields {
		return pressedButton().with(fields{"container": pressedButton()["container"].(fields).with(more)})
	}
	home := fields{"type": "home", "app_id": ourApp, "bot_id": ourBot, "team_id": ourTeam}
	view := func(more fields) fields {
		return pressedButton().with(fields{"container": fields{"type": "view"}, "view": home.with(more), "channel": nil, "message": nil})
	}
	clicks := map[string]fields{
		"a click from another workspace":          pressedButton().with(fields{"user": fields{"id": operator, "team_id": "T0OTHER"}}),
		"a click without the person's workspace":  pressedButton().with(fields{"user": fields{"id": operator}}),
		"a click that another workspace delivers": pressedButton().with(fields{"team": fields{"id": "T0OTHER"}}),
		"a click of an organization's app":        pressedButton().with(fields{"is_enterprise_install": true}),
		"another app's click":                     pressedButton().with(fields{"api_app_id": "A0OTHER"}),
		"a click from nobody":                     pressedButton().with(fields{"user": fields{"username": "op", "team_id": ourTeam}}),
		"a click in another channel":              box(fields{"channel_id": "C0OTHER"}),
		"a click in two channels":                 pressedButton().with(fields{"channel": fields{"id": "C0OTHER"}}),
		"a click on no message":                   box(fields{"message_ts": nil}),
		"a click in a thread that is none":        box(fields{"thread_ts": "x"}),
		"a click in a box that nobody knows":      box(fields{"type": "message_attachment"}),
		"a button in another app's message":       pressedButton().with(fields{"message": fields{"bot_id": "B1", "app_id": "A1"}}),
		"two actions at once":                     pressedButton().with(fields{"actions": []fields{{"type": "button", "value": "a"}, {"type": "button", "value": "b"}}}),
		"no action":                               pressedButton().with(fields{"actions": []fields{}}),
		"a menu":                                  button(fields{"type": "static_select"}),
		"a button without a value":                button(fields{"value": ""}),
		"a click of two minutes ago":              button(fields{"action_ts": ago(2 * time.Minute)}),
		"a click of tomorrow":                     button(fields{"action_ts": ago(-24 * time.Hour)}),
		"a click without a time":                  button(fields{"action_ts": nil}),
		"a click in a dialog":                     view(fields{"type": "modal"}),
		"a click on another app's page":           view(fields{"app_id": "A0OTHER"}),
		"a click on another workspace's page":     view(fields{"team_id": "T0OTHER"}),
		"a shortcut":                              pressedButton().with(fields{"type": "message_action", "callback_id": "x"}),
		"a submitted dialog":                      pressedButton().with(fields{"type": "view_submission", "view": fields{"id": "V1"}}),
		"a closed dialog":                         pressedButton().with(fields{"type": "view_closed"}),
	}
	kinds := map[string]map[string]fields{
		"events_api": events, "slash_commands": commands, "interactive": clicks, "brand_new": {"a kind of envelope that nobody knows": wrap(typed())},
	}
	for kind, payloads := range kinds {
		for name, payload := range payloads {
			t.Run(name, func(t *testing.T) {
				got, _ := give(t, kind, payload.raw(), 0)
				if slices.ContainsFunc(got, func(m bot.Message) bool { return m.Notice == "" }) {
					t.Errorf("it reached the core: %+v", got)
				}
			})
		}
	}
	for _, broken := range []string{"", "null", "[]", `"x"`, "7", "{", `{"type":"event_callback","event":[]}`} {
		t.Run(fmt.Sprintf("broken %q", broken), func(t *testing.T) {
			for kind := range kinds {
				if got, _ := give(t, kind, json.RawMessage(broken), 0); len(got) > 0 {
					t.Errorf("it reached the core: %+v", got)
				}
			}
		})
	}
}
