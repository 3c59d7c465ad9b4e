package slack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"bgbot/bot"
)

// survey is everything that has to be right before anybody is served. [Open] stops at the first fault, [Check] tells all.
type survey struct {
	opt    Options
	web    *web
	home   home // but for the app
	appID  string
	people *people
	state  *channel
	public bool
}

// look is one thing that is looked at. do returns what was found; its error is [bot.Fatal] or may pass.
type look struct {
	what string
	do   func(ctx context.Context) (found finding, err error)
}

// finding is what was found. Doubtful does not keep anybody from serving.
type finding struct {
	text     string
	doubtful bool
}

func good(text string) finding { return finding{text: text} }

func newSurvey(opt Options) *survey {
	if opt.APIURL == "" {
		opt.APIURL = slackAPI
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &survey{
		opt: opt, home: home{channel: opt.Channel}, state: &channel{},
		web: newWeb(opt.APIURL, opt.BotToken),
	}
}

func (s *survey) chat() *Chat {
	out := newSender(newClient(s.opt.BotToken, s.opt.APIURL, s.web.silence, silent), s.opt.Channel, s.opt.Log)
	h := s.home
	h.app = s.appID
	out.bot = h.bot
	return &Chat{sender: out, opt: s.opt, home: h, web: s.web, people: s.people, state: s.state, stale: make(chan struct{}, 1), public: s.public, pace: slackPace}
}

// needed lists what serving needs: first, of which each stands on those before it, and the rest, which stand on these and
// not on each other.
func (s *survey) needed() (first, rest []look) {
	first = []look{
		{"configuration", s.configuration},
		{"slack.bot_token", s.identity},
	}
	rest = []look{
		{"app", s.app},
		{"slack.channel", s.channel},
		{"auth.slack", s.allowlist},
	}
	return first, rest
}

func fatal(format string, args ...any) error { return &bot.Fatal{Reason: fmt.Sprintf(format, args...)} }

var (
	channelPattern  = regexp.MustCompile(`^[CG][A-Z0-9]{2,30}$`)
	appTokenPattern = regexp.MustCompile(`^xapp-[0-9]+-(A[A-Z0-9]+)-`)
)

// configuration looks at what was given, before anybody is asked.
func (s *survey) configuration(context.Context) (finding, error) {
	o := s.opt
	swapped := strings.HasPrefix(o.AppToken, "xoxb-") && strings.HasPrefix(o.BotToken, "xapp-")
	switch {
	case swapped:
		return finding{}, fatal("slack.app_token and slack.bot_token are the wrong way round: the app token begins with xapp-, the bot token with xoxb-.")
	case !strings.HasPrefix(o.AppToken, "xapp-"):
		return finding{}, fatal("slack.app_token is no app-level token, which begins with xapp-. Make one on api.slack.com/apps, your app, Basic Information, with the scope connections:write, and put it into slack.app_token_file.")
	case !strings.HasPrefix(o.BotToken, "xoxb-"):
		return finding{}, fatal("slack.bot_token is no bot token, which begins with xoxb-. %s", installAgain)
	case !channelPattern.MatchString(o.Channel):
		return finding{}, fatal("slack.channel must be the channel's ID (C…), not its name: Slack shows it at the bottom of the channel's details.")
	case !strings.HasSuffix(o.APIURL, "/"):
		return finding{}, fatal("slack.api_url must end in /.")
	}
	return good("tokens and channel have the right form"), nil
}

// identity pins who we are, and looks at what the token may do.
func (s *survey) identity(ctx context.Context) (finding, error) {
	o, h, err := s.web.ask(ctx, "auth.test", nil)
	if err != nil {
		return finding{}, err
	}
	s.home.team, s.home.user, s.home.bot = o.text("team_id"), o.text("user_id"), o.text("bot_id")
	switch {
	case s.home.team == "" || s.home.user == "" || s.home.bot == "":
		return finding{}, fatal("slack.bot_token is not a bot's. %s", installAgain)
	case o.set("is_enterprise_install"):
		return finding{}, fatal("The Slack app is installed for a whole organization; bgbot serves one workspace. Install it in the workspace of slack.channel and put that bot token into slack.bot_token_file.")
	}
	return good(fmt.Sprintf("%s in the workspace %s (%s); scopes %s", o.text("user"), o.text("team"), s.home.team, strings.Join(wantedScopes(s.public), " "))), s.scopes(h)
}

// scopes compares what the token may do with what we need. A surplus is refused: whoever steals the token has it too.
func (s *survey) scopes(h http.Header) error {
	var has []string
	for scope := range strings.SplitSeq(h.Get("X-OAuth-Scopes"), ",") {
		if scope = strings.TrimSpace(scope); scope != "" {
			has = append(has, scope)
		}
	}
	s.public = slices.ContainsFunc(has, func(scope string) bool { return strings.HasPrefix(scope, "channels:") }) && !slices.Contains(has, "groups:history")
	want := wantedScopes(s.public)
	missing := slices.DeleteFunc(slices.Clone(want), func(scope string) bool { return slices.Contains(has, scope) })
	surplus := slices.DeleteFunc(slices.Clone(has), func(scope string) bool { return slices.Contains(want, scope) })
	const where = "on api.slack.com/apps, your app, OAuth & Permissions (or paste `bgbot slack manifest` into App Manifest), install the app again and start bgbot again"
	switch {
	case len(missing) > 0 && len(surplus) > 0:
		return fatal("slack.bot_token lacks %s and has %s, which bgbot does not need. Mend the scopes %s.", strings.Join(missing, ", "), strings.Join(surplus, ", "), where)
	case len(missing) > 0:
		return fatal("slack.bot_token lacks %s. Add the scopes %s.", strings.Join(missing, ", "), where)
	case len(surplus) > 0:
		return fatal("slack.bot_token has %s, which bgbot does not need; what it does not have, nobody can steal. Remove the scopes %s.", strings.Join(surplus, ", "), where)
	}
	return nil
}

// app pins our app: its ID is on everything that Slack sends us.
func (s *survey) app(ctx context.Context) (finding, error) {
	o, _, err := s.web.ask(ctx, "bots.info", url.Values{"bot": {s.home.bot}})
	if err != nil {
		return finding{}, err
	}
	s.appID = o.in("bot").text("app_id")
	if s.appID == "" {
		return finding{}, fatal("Slack does not say which app slack.bot_token belongs to. %s", installAgain)
	}
	if m := appTokenPattern.FindStringSubmatch(s.opt.AppToken); m != nil && m[1] != s.appID {
		return finding{}, fatal("slack.app_token and slack.bot_token belong to two apps (%s and %s). Take both from the same app on api.slack.com/apps.", m[1], s.appID)
	}
	return good(s.appID), nil
}

// channel looks at where we are.
func (s *survey) channel(ctx context.Context) (finding, error) {
	is, private, err := askChannel(ctx, s.web, s.home)
	if no, ok := errors.AsType[*webError](err); ok && no.code == "missing_scope" {
		return finding{}, fatal("slack.bot_token may not look at slack.channel (%s), which needs %s: private and public channels have scopes of their own. Make the channel private, or set the app up anew with `bgbot slack manifest --public`.", s.home.channel, no.needed)
	}
	if err != nil {
		return finding{}, err
	}
	if is != usable {
		return finding{}, fatal("slack.channel (%s) %s. %s", s.home.channel, is, mends[is])
	}
	s.state.learn(is, time.Now())
	s.public = !private
	if s.public {
		return finding{"public: everybody in the workspace can read it and come in; a private channel is better", true}, nil
	}
	return good("private, and the bot is in it"), nil
}

// allowlist reads who may act. What Slack does not tell now is asked again later.
func (s *survey) allowlist(ctx context.Context) (finding, error) {
	s.people = newPeople(s.web, s.home.team, s.opt.People, s.opt.Log)
	err := s.people.refresh(ctx)
	if _, fatal := errors.AsType[*bot.Fatal](err); fatal {
		return finding{}, err
	}
	text, doubtful := s.people.summary() // what was not told is asked again by watch
	return finding{text, doubtful}, nil
}

// How long [Open] tries, and how fast.
const openLimit = 45 * time.Second

// passing are Slack's own troubles; any other no is an answer.
var passing = []string{"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"}

// insist tries until it succeeds, trying cannot help, or the limit is over. That it takes so long is said once, in the log:
// whoever starts bgbot for the first time looks at that.
func insist(ctx context.Context, log *slog.Logger, limit time.Duration, do func(context.Context) (finding, error)) (finding, error) {
	told := false
	began, pace := time.Now(), backoff{least: 250 * time.Millisecond, most: 2 * time.Second}
	var asked time.Duration // how long Slack itself wants us to wait
	for {
		if err := pauseFor(ctx, max(pace.pause(), asked)); err != nil {
			return finding{}, err
		}
		found, err := do(ctx)
		if err == nil {
			return found, nil
		}
		if _, fatal := errors.AsType[*bot.Fatal](err); fatal {
			return finding{}, err
		}
		if no, ok := errors.AsType[*webError](err); ok && !slices.Contains(passing, no.code) {
			return finding{}, fatal("Slack says no to %s. Look at `bgbot doctor`, mend it, and start bgbot again.", no.Error())
		}
		if asked = 0; time.Since(began) > limit {
			return finding{}, &unreachable{err}
		}
		if !told {
			told = true
			log.WarnContext(ctx, "slack does not answer yet, asking on", "for_up_to", limit, "err", err)
		}
		if busy, ok := errors.AsType[*bot.Busy](err); ok {
			asked = min(busy.After, limit)
		}
	}
}

// unreachable is Slack not answering for so long that somebody should know.
type unreachable struct{ err error }

func (e *unreachable) Error() string { return "slack: " + e.err.Error() }
func (e *unreachable) Unwrap() error { return e.err }

// UserMessage is the error as a person reads it.
func (e *unreachable) UserMessage() string {
	return fmt.Sprintf("Slack does not answer: %v. Look at the network, at slack.api_url and at status.slack.com, then start bgbot again.", e.err)
}
