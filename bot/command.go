package bot

import (
	"regexp"
	"slices"
	"strings"
	"unicode"

	"bgbot/auth"
	"bgbot/pve"
)

// command is what a message asks for.
type command struct {
	kind kind
	verb pve.Verb
	arg  string // a code, a nonce, a model's name, a prompt's or a turn's ID, the text for the agent
	err  error  // kind invalid: what to tell the person
}

type kind int

const (
	nothing kind = iota
	talk
	stop
	help
	power // a verb
	confirm
	cancel
	model
	rerun  // what was missed
	home   // draw the person's page
	notice // from the chat itself
	invalid
)

// act is what the allowlist is asked about.
func (c command) act() auth.Act {
	switch c.kind {
	case stop:
		return auth.Stop
	case home:
		return auth.Look
	case power:
		if c.verb.Changes() {
			return auth.Change
		}
		return auth.Look
	case confirm, cancel:
		return auth.Confirm
	default:
		return auth.Talk
	}
}

// forAgent says that the command is about the thread's session, or makes one.
func (c command) forAgent() bool { return c.kind == talk || c.kind == model || c.kind == rerun }

// forThread says that m, which c is, was typed in a thread for its agent.
func (c command) forThread(m Message) bool {
	return c.forAgent() && m.Click == "" && m.Place.Thread != ""
}

// parse reads a typed text or a click. Phones capitalise the first letter and set curly quotes; both are forgiven for
// our own words, never inside a verb's argument. A sentence that merely begins with one of our words goes to the agent,
// but a text that begins with "/vm", or is "vm" and one word, or both in one, never does: a mistyped verb must not become a
// prompt.
func parse(m Message, prompts []Prompt) command {
	switch {
	case m.Notice != "":
		return command{kind: notice}
	case m.Home:
		return command{kind: home}
	case m.Click != "":
		return parseClick(m.Click, prompts)
	}
	text := strings.TrimSpace(printable(m.Text))
	words := strings.Fields(strings.ToLower(strings.Trim(text, "“”\"'`.! ")))
	if len(words) == 0 {
		return command{kind: nothing}
	}
	switch first := strings.TrimPrefix(words[0], "/"); {
	case first == "stop" && len(words) == 1, saysStop(words):
		return command{kind: stop}
	case (first == "help" || first == "?") && len(words) == 1:
		return command{kind: help}
	case first == "again" && len(words) == 1:
		return command{kind: rerun}
	case first == "vm" && len(words) > 1 && slices.Contains([]string{"help", "?", "confirm", "cancel"}, words[1]):
		if c := parse(Message{Text: strings.Join(words[1:], " ")}, nil); c.kind != talk { // "/vm" is Slack's only command
			return c
		}
		return parseVerb(words, text)
	case first == "vm":
		return parseVerb(words, text)
	case len(words) == 1 && isJoined(first):
		return command{kind: invalid, err: notAVerb(first)}
	case len(words) == 1 && isVerb(first):
		return command{kind: invalid, err: &says{"Did you mean `vm " + first + "`? A bare word would only reach the agent; nothing was done."}}
	case len(words) == 2 && len(words[1]) == 4 && (first == "confirm" && wordPattern.MatchString(words[1]) || first == "cancel" && codePattern.MatchString(words[1])):
		k := confirm
		if first == "cancel" {
			k = cancel
		}
		return command{kind: k, arg: strings.ToUpper(words[1])}
	case first == "model" && len(words) == 2:
		if !modelPattern.MatchString(words[1]) {
			return command{kind: invalid, err: &says{"A model's name has letters, digits, dots and dashes only, for example `model opus`."}}
		}
		return command{kind: model, arg: words[1]}
	}
	return command{kind: talk, arg: text}
}

// Command is how somebody would type what a text asks for where it needs no model: a verb, an answer to a card, a stop. It is
// "" for any other text. It is for a [Chat] that has to say why such a text is none.
func Command(text string) string {
	switch c := parse(Message{Text: text}, nil); c.kind {
	case power:
		return "vm " + string(c.verb)
	case confirm:
		return "confirm " + c.arg
	case cancel:
		return "cancel " + c.arg
	case stop:
		return "stop"
	default:
		return ""
	}
}

var (
	codePattern  = regexp.MustCompile(`^[0-9a-z]*[0-9][0-9a-z]*$`) // a code has a digit, so that "cancel that" is none
	wordPattern  = regexp.MustCompile(`^[0-9a-z]+$`)               // but "confirm" and a misread code must not become a prompt
	modelPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._:/@\[\]-]{0,100}$`)
)

// saysStop takes what people in a hurry put around the word: "stop it now", "please stop". Any other word makes it a text
// for the agent, such as "stop nginx".
func saysStop(words []string) bool {
	stops := false
	for _, w := range words {
		switch strings.Trim(w, ",.!") {
		case "stop":
			stops = true
		case "it", "that", "this", "now", "please", "pls":
		default:
			return false
		}
	}
	return stops
}

func isVerb(word string) bool {
	_, err := pve.ParseVerb(word)
	return err == nil
}

// isJoined says that a word is "vm" and a verb with no blank between them, as in "vmstatus" or "vm-status".
func isJoined(word string) bool {
	rest, vm := strings.CutPrefix(word, "vm")
	return vm && isVerb(strings.TrimLeftFunc(rest, func(r rune) bool { return !unicode.IsLetter(r) }))
}

// notAVerb answers a mistyped verb.
func notAVerb(word string) error {
	return &says{plain(word, 40) + " is not a verb; nothing was done.\nThe verbs: `vm " + strings.ReplaceAll(pve.Words(), " ", "`, `vm ") + "`."}
}

func parseVerb(words []string, text string) command {
	slash := strings.HasPrefix(text, "/")
	if len(words) == 1 {
		return command{kind: help}
	}
	v, err := pve.ParseVerb(words[1])
	switch {
	case err == nil && len(words) == 2:
		return command{kind: power, verb: v}
	case err == nil:
		return command{kind: invalid, err: &says{"A verb stands alone: type `vm " + words[1] + "` and nothing behind it. Nothing was done."}}
	case slash && len(words) > 2:
		return command{kind: invalid, err: &says{plain(words[1], 40) + " is not a verb; nothing was done.\nTo ask the agent, write it in the channel without `/vm`."}}
	case slash || len(words) == 2:
		return command{kind: invalid, err: notAVerb(words[1])}
	default:
		return command{kind: talk, arg: text}
	}
}

// Clicks are a kind and one argument. What a click may do is looked up in our own records, never read from the click.
const (
	clickStop    = "stop:"
	clickConfirm = "confirm:"
	clickCancel  = "cancel:"
	clickVerb    = "vm:"
	clickPrompt  = "prompt:"
)

func parseClick(id string, prompts []Prompt) command {
	if arg, ok := strings.CutPrefix(id, clickStop); ok {
		return command{kind: stop, arg: arg}
	}
	if arg, ok := strings.CutPrefix(id, clickConfirm); ok {
		return command{kind: confirm, arg: arg}
	}
	if arg, ok := strings.CutPrefix(id, clickCancel); ok {
		return command{kind: cancel, arg: arg}
	}
	if arg, ok := strings.CutPrefix(id, clickVerb); ok {
		if v, err := pve.ParseVerb(arg); err == nil {
			return command{kind: power, verb: v}
		}
	}
	if arg, ok := strings.CutPrefix(id, clickPrompt); ok {
		if arg == continuePrompt {
			return command{kind: talk, arg: continueText}
		}
		for _, p := range prompts {
			if p.ID == arg {
				return command{kind: talk, arg: p.Text}
			}
		}
	}
	return command{kind: invalid, err: &says{"That button is from another version of me and does nothing. Type `help` for what works now."}}
}

// says is an error that is a sentence for a person and nothing more.
type says struct{ text string }

func (e *says) Error() string       { return e.text }
func (e *says) UserMessage() string { return e.text }
