package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"bgbot/internal/slacktest"
)

// TestStoriesOfSlack tells what only Slack knows: slash commands, its own page, sockets that end. The commands are those
// of [TestStories] and
//
//	slack leaves|returns                the bot ends, or begins again; Slack goes on without it
//	slack drops N                       Slack gives up on N things that it could not deliver
//	slack cuts KIND                     every socket meets that end; it waits for the next one
//	slack opens NAME                    somebody opens the bot's own page
//	slack page NAME REGEXP              waits until that stands on somebody's page
//	[!] slack touches NAME LABEL        presses a button there, or finds none
//	slack edits NAME TEXT               somebody changes what they said last
//	slack pastes NAME TEXT              somebody begins a thread with words and a picture
//	slack joins NAME                    somebody new comes into the channel
//	slack rang REGEXP…                  these are all posts of the bot in the thread, as they begin now; each rings a phone
//	slack keeps thread|card|home        writes what the operator has before them into the folder of -dump, for pictures
//	slack overtakes NAME TEXT REPLY     somebody begins a thread and replies to it, and Slack delivers the reply first
//	slack heard                         nothing that Slack sent was lost or acknowledged late
func TestStoriesOfSlack(t *testing.T) {
	t.Parallel() // else the others would wait for the last of these
	tellStories(t, func(t testing.TB) venue { return newDesk(t) }, "testdata/slack")
}

// ends are the ways in which a socket ends, as stories name them.
var ends = map[string]slacktest.Disruption{
	"warning": slacktest.Warning, "refresh": slacktest.Refresh, "silent": slacktest.RefreshSilent, "reset": slacktest.ResetSocket,
	"hangup": slacktest.Hangup, "close": slacktest.CloseFrame, "half": slacktest.CutFrame, "crowd": slacktest.TooMany,
}

func storySlack(ts *testscript.TestScript, neg bool, args []string) {
	w := the(ts)
	d, ok := w.venue.(*desk)
	if !ok {
		ts.Fatalf("this story happens at consoles")
	}
	ctx, cancel := context.WithTimeout(d.ctx, patience)
	defer cancel()
	switch name := strings.Join(args[:min(1, len(args))], ""); {
	case name == "leaves":
		w.close()
	case name == "returns":
		w.open()
	case name == "drops" && len(args) == 2:
		dropped, n := 0, number(ts, args[1])
		if !soon(func() bool { dropped += d.slack.DropQueued(); return dropped >= n }) {
			ts.Fatalf("Slack had %d things to deliver, not %d", dropped, n)
		}
	case name == "cuts" && len(args) == 2 && ends[args[1]] != 0:
		dialled := d.slack.Dialled()
		if d.slack.Disrupt(ends[args[1]]) == 0 {
			ts.Fatalf("there is no socket to cut")
		}
		ts.Check(d.slack.AwaitSockets(ctx, 1, dialled))
	case name == "opens" && len(args) == 2:
		w.open()
		_, err := d.slack.OpenHome(member(args[1]))
		ts.Check(err)
	case name == "page" && len(args) == 3:
		ts.Check(d.page(ctx, member(args[1]), args[2]))
	case name == "touches" && len(args) == 3:
		if err := d.touch(member(args[1]), args[2]); neg != (err != nil) {
			ts.Fatalf("touching %q: %v", args[2], err)
		}
	case name == "edits" && len(args) == 3:
		ts.Check(d.edit(args[1], args[2]))
	case name == "pastes" && len(args) == 3:
		w.open()
		_, err := d.slack.SayMarkup(member(args[1]), "", args[2], map[string]any{"subtype": "file_share", "files": []any{map[string]any{"id": "F0FILE", "name": "screen.png"}}})
		ts.Check(err)
	case name == "joins" && len(args) == 2:
		d.slack.AddUser(slacktest.User{ID: member(args[1]), Name: args[1]})
		_, err := d.slack.Join(d.slack.Channel(), member(args[1]))
		ts.Check(err)
	case name == "overtakes" && len(args) == 4:
		w.open()
		ts.Check(d.overtakes(ctx, args[1], args[2], args[3]))
	case name == "rang" && len(args) > 1:
		ts.Check(d.rang(args[1:]))
	case name == "keeps" && len(args) == 2:
		ts.Check(d.keep(args[1]))
	case name == "heard" && len(args) == 1:
		if truth := d.slack.Truth(); truth.Lost > 0 {
			ts.Fatalf("of what Slack sent: %+v", truth)
		}
	default:
		ts.Fatalf("usage: slack leaves|returns | drops N | cuts %s | opens|joins NAME | page NAME REGEXP | touches NAME LABEL | edits|pastes NAME TEXT | overtakes NAME TEXT REPLY | rang REGEXP… | keeps thread|card|home | heard",
			strings.Join(slices.Sorted(maps.Keys(ends)), "|"))
	}
}

// page waits until a person's page shows pattern.
func (d *desk) page(ctx context.Context, user, pattern string) error {
	re, err := regexp.Compile("(?m)" + pattern)
	if err != nil {
		return err
	}
	if re.MatchString(d.slack.Home(user).Shown()) {
		return nil
	}
	_, err = d.slack.Await(ctx, 0, func(h slacktest.Happening) bool {
		return h.Kind == slacktest.Drawn && h.View.User == user && re.MatchString(h.View.Shown())
	})
	if err != nil {
		return fmt.Errorf("%w: %q is not on the page, which shows:\n%s", err, pattern, d.slack.Home(user).Shown())
	}
	return nil
}

// touch presses a button of a person's page.
func (d *desk) touch(user, label string) error {
	for _, b := range d.slack.Home(user).Buttons() {
		if b.Label == label {
			_, err := d.slack.ClickHome(user, b.ActionID)
			return err
		}
	}
	return fmt.Errorf("there is no button %q on the page:\n%s", label, d.slack.Home(user).Shown())
}

// edit changes what a person said last.
func (d *desk) edit(name, text string) error {
	all := d.slack.Messages(d.slack.Channel())
	for _, m := range slices.Backward(all) {
		if m.User == member(name) {
			_, err := d.slack.Edit(member(name), m.TS, text)
			return err
		}
	}
	return fmt.Errorf("%s has said nothing", name)
}

// overtakes has a person say two things, of which the second is delivered first.
func (d *desk) overtakes(ctx context.Context, name, text, reply string) error {
	if err := d.slack.AwaitSockets(ctx, 1, -1); err != nil {
		return err
	}
	d.slack.SetLink(slacktest.Link{Swap: true})
	defer d.slack.SetLink(slacktest.Link{})
	root, err := d.slack.Say(member(name), "", text)
	if err != nil {
		return err
	}
	_, err = d.slack.Say(member(name), root.TS, reply)
	return err
}

// rang compares the posts of the bot in the thread that began last with what they should be.
func (d *desk) rang(patterns []string) error {
	var posts []string
	all := d.slack.Messages(d.slack.Channel())
	for _, m := range d.slack.Thread(all[len(all)-1].TS) {
		if m.BotID == "" {
			continue
		}
		post, _, _ := strings.Cut(m.Shown(), "\n")
		for _, f := range m.Files {
			post += " " + f.Name
		}
		posts = append(posts, strings.TrimSpace(post))
	}
	same := slices.EqualFunc(posts, patterns, func(post, pattern string) bool {
		ok, err := regexp.MatchString("^(?:"+pattern+")", post)
		return ok && err == nil
	})
	if !same {
		return fmt.Errorf("the posts are\n%s\nand not\n%s", strings.Join(posts, "\n"), strings.Join(patterns, "\n"))
	}
	return nil
}

var dump = flag.String("dump", "", "keep what stands in Slack in this folder")

// keep writes the operator's page, or the thread that is open, as Slack has it.
func (d *desk) keep(what string) error {
	var page any = d.slack.Home(member("operator")).Raw
	if what != "home" {
		all := d.slack.Messages(d.slack.Channel())
		messages := []map[string]any{}
		for _, m := range d.slack.Thread(all[len(all)-1].TS) {
			blocks := []json.RawMessage{}
			for _, b := range m.Blocks {
				blocks = append(blocks, b.Raw)
			}
			messages = append(messages, map[string]any{"bot": m.BotID != "", "at": m.At, "text": m.Text, "blocks": blocks, "files": m.Files})
		}
		page = messages
	}
	raw, err := json.Marshal(page)
	if err != nil || *dump == "" {
		return err
	}
	return os.WriteFile(filepath.Join(*dump, what+".json"), raw, 0o600)
}
