package bot

import (
	"context"
	"fmt"
	"time"

	"bgbot/auth"
)

// Chat is a chat service. Text is CommonMark; each Chat renders it in its own dialect and splits it at its own limits.
// A Chat sends once and classifies the failure as [Busy], [Gone] or [Fatal], or returns any other error for a failure
// that may pass; only the core retries. Its methods may be called from many goroutines at once.
type Chat interface {
	// Run delivers messages and clicks until ctx is done, reconnecting as needed. It returns early only for what
	// waiting cannot mend, such as a revoked token. handle returns at once and may be called again with the same
	// message; when it returns nil the message is recorded and may be acknowledged.
	Run(ctx context.Context, handle func(context.Context, Message) error) error
	// Post says t in p and returns an id for Edit; what one person alone sees may have none. It tries once; a [Busy] error
	// says when to ask again, a [Refused] one that another message may be taken. A Place without a Thread means the channel itself.
	Post(ctx context.Context, p Place, t Text) (id string, err error)
	// Edit replaces what Post said, choices included. [Gone] means that the message no longer exists.
	Edit(ctx context.Context, p Place, id string, t Text) error
}

// Place is where a conversation happens; it is comparable and the key of a conversation everywhere.
type Place struct {
	Chat    string // console, slack, mattermost
	Channel string
	Thread  string // the id of the message that began the thread
}

func (p Place) String() string { return fmt.Sprintf("%s/%s/%s", p.Chat, p.Channel, p.Thread) }

// Message is something a person said or clicked, or, in Notice, something that the chat itself has to tell.
type Message struct {
	ID     string // unique in its chat; the same when it is delivered again
	Place  Place  // Thread is set also for the message that begins a thread: its own id; a command or click outside of threads has none
	Opens  bool   // it begins its thread; any other is a reply
	From   auth.Person
	Name   string // how the chat shows the person; for display only
	Text   string
	Click  string // the ID of the [Choice] that was pressed; then Text is empty
	Card   string // with Click: the id of the message that carries the choice
	At     time.Time
	Files  int    // how many came with Text; nobody reads them
	Missed bool   // found by reading back after a gap, not delivered while it was new
	Home   bool   // From has opened the bot's own page and wants it drawn; Text and Click are empty
	Notice string // CommonMark for the channel, from nobody: a gap that was closed, a stranger who came in
}

// Text is what the bot says.
type Text struct {
	Body    string   // CommonMark; the first line is the state and fits a lock screen (120 characters)
	Choices []Choice // buttons under it; nil removes them on Edit
	Files   []File   // with Post only
	Quiet   bool     // no push notification, where the service can do that
	Only    string   // visible to this user ID only, where the service can do that
	Key     string   // with Post: names this one message; a Chat unsure whether an earlier try arrived can look for it
}

// Choice is a button. ID comes back as Message.Click.
type Choice struct {
	ID     string
	Label  string
	Danger bool
}

// File is an attachment.
type File struct {
	Name string
	Type string
	Data []byte
}

// Limits is how fast a chat takes what the bot says. A Chat that says nothing gets [SlowLimits].
type Limits struct {
	EditGap        time.Duration // least time between two edits in the whole chat
	EditsPerMinute int           // most edits in any minute; with it EditGap is only how close they are while few were made lately. 0 is any number
	PostGap        time.Duration // least time between two posts in the whole chat
	Tick           time.Duration // how often a running message is redrawn only because time has passed
	Apart          bool          // a Busy answer to an edit holds back edits only, one to a post posts only
}

// SlowLimits stays below 45 edits a minute and one post a second: Slack publishes 50 and more edits a minute and about
// one post a second for each channel, and a client that lives at the limit meets it.
var SlowLimits = Limits{EditGap: 400 * time.Millisecond, EditsPerMinute: 45, PostGap: time.Second, Tick: 5 * time.Second}

// Limited is a Chat that knows its own limits.
type Limited interface{ Limits() Limits }

// Filing is a Chat in which files are messages of their own that ring like any other.
type Filing interface {
	// File puts files into p without a word. Like Post, it tries once and classifies the failure.
	File(ctx context.Context, p Place, files []File) error
}

// Homed is a Chat in which the bot has a page of its own for each person.
type Homed interface {
	// Home shows t on the page of the person with this user ID. Like Post, it tries once and classifies the failure.
	Home(ctx context.Context, person string, t Text) error
}

// Naming is a Chat that knows how it shows people.
type Naming interface {
	// NameOf is how the person with this user ID is shown, "" if that is not known. It returns at once.
	NameOf(person string) string
}

// Attentive is a Chat that can show beside a thread that the bot is at work there.
type Attentive interface {
	// Working shows status, a few words; an empty one takes it away. The service forgets it by itself after a while. It is
	// decoration: nobody retries it.
	Working(ctx context.Context, p Place, status string) error
}

// Busy is a rate limit: nothing may be sent to this chat before After has passed; with Limits.Apart nothing of that kind.
type Busy struct{ After time.Duration }

func (e *Busy) Error() string { return fmt.Sprintf("the chat is busy for %s", e.After) }

// Gone means that the message or thread does not exist any more, or takes nothing any more; sending again cannot help, posting
// anew or elsewhere can.
type Gone struct{ Reason string }

func (e *Gone) Error() string { return "gone: " + e.Reason }

// Refused means that the chat is well and does not take this message, such as one that it cannot read. It may take another.
type Refused struct{ Err error }

func (e *Refused) Error() string { return e.Err.Error() }

func (e *Refused) Unwrap() error { return e.Err }

// Fatal means that waiting cannot mend it, such as a revoked token.
type Fatal struct{ Reason string }

func (e *Fatal) Error() string { return e.Reason }

// UserMessage is the error as a person reads it.
func (e *Fatal) UserMessage() string { return e.Reason }
