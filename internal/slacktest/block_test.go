package slacktest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"testing"

	"bgbot/internal/slacktest"
)

// text is a text object with n characters.
func text(kind string, n int) object { return object{"type": kind, "text": strings.Repeat("ä", n)} }

func button(id string, more object) object {
	b := object{"type": "button", "action_id": id, "text": text("plain_text", 5)}
	maps.Copy(b, more)
	return b
}

func actions(elements ...object) object { return object{"type": "actions", "elements": elements} }

func many(n int, each func(int) object) []object {
	all := []object{}
	for i := range n {
		all = append(all, each(i))
	}
	return all
}

func table(rows, columns int) object {
	all := [][]object{}
	for range rows {
		all = append(all, many(columns, func(int) object { return object{"type": "raw_text", "text": "x"} }))
	}
	return object{"type": "table", "rows": all}
}

func TestLimitsOfBlocks(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{Unlimited: true})
	buttons := func(n int) object {
		return actions(many(n, func(i int) object { return button(fmt.Sprint(i), nil) })...)
	}
	confirm := func(title, text_, ok int) object {
		return actions(button("a", object{"confirm": object{
			"title": text("plain_text", title), "text": text("plain_text", text_), "confirm": text("plain_text", ok), "deny": text("plain_text", 2),
		}}))
	}
	section := func(n int) object { return object{"type": "section", "text": text("mrkdwn", n)} }
	fields := func(n, size int) object {
		return object{"type": "section", "fields": many(n, func(int) object { return text("mrkdwn", size) })}
	}
	md := func(n int) object { return object{"type": "markdown", "text": strings.Repeat("ä", n)} }
	one := func(o ...object) []object { return o }
	for name, tc := range map[string]struct {
		blocks []object
		want   string // empty: it is taken
	}{
		"markdown":                {one(md(12000)), ""},
		"long markdown":           {one(md(12001)), "invalid_blocks"},
		"long markdown in two":    {one(md(6000), md(6001)), "invalid_blocks"},
		"50 blocks":               {many(50, func(int) object { return section(1) }), ""},
		"51 blocks":               {many(51, func(int) object { return section(1) }), "msg_blocks_too_many"},
		"long payload":            {many(5, func(int) object { return section(2700) }), "msg_blocks_too_long"},
		"section":                 {one(section(3000)), ""},
		"long section":            {one(section(3001)), "invalid_blocks"},
		"empty section":           {one(section(0)), "invalid_blocks"},
		"section with no text":    {one(object{"type": "section"}), "invalid_blocks"},
		"fields":                  {one(fields(10, 500)), ""},
		"11 fields":               {one(fields(11, 1)), "invalid_blocks"},
		"long field":              {one(fields(1, 2001)), "invalid_blocks"},
		"header":                  {one(object{"type": "header", "text": text("plain_text", 150)}), ""},
		"long header":             {one(object{"type": "header", "text": text("plain_text", 151)}), "invalid_blocks"},
		"25 buttons":              {one(buttons(25)), ""},
		"26 buttons":              {one(buttons(26)), "invalid_blocks"},
		"no button":               {one(buttons(0)), "invalid_blocks"},
		"10 in a context":         {one(object{"type": "context", "elements": many(10, func(int) object { return text("mrkdwn", 1) })}), ""},
		"11 in a context":         {one(object{"type": "context", "elements": many(11, func(int) object { return text("mrkdwn", 1) })}), "invalid_blocks"},
		"label":                   {one(actions(button("a", object{"text": text("plain_text", 75)}))), ""},
		"long label":              {one(actions(button("a", object{"text": text("plain_text", 76)}))), "invalid_blocks"},
		"mrkdwn label":            {one(actions(button("a", object{"text": text("mrkdwn", 5)}))), "invalid_blocks"},
		"value":                   {one(actions(button("a", object{"value": strings.Repeat("x", 2000)}))), ""},
		"long value":              {one(actions(button("a", object{"value": strings.Repeat("x", 2001)}))), "invalid_blocks"},
		"long action_id":          {one(actions(button(strings.Repeat("x", 256), nil))), "invalid_blocks"},
		"long url":                {one(actions(button("a", object{"url": strings.Repeat("x", 3001)}))), "invalid_blocks"},
		"another style":           {one(actions(button("a", object{"style": "loud"}))), "invalid_blocks"},
		"the same action_id":      {one(actions(button("a", nil), button("a", nil))), "invalid_blocks"},
		"action_id of two blocks": {one(actions(button("a", nil)), actions(button("a", nil))), ""},
		"the same block_id":       {one(object{"type": "divider", "block_id": "x"}, object{"type": "divider", "block_id": "x"}), "invalid_blocks"},
		"long block_id":           {one(object{"type": "divider", "block_id": strings.Repeat("x", 256)}), "invalid_blocks"},
		"confirm":                 {one(confirm(100, 300, 30)), ""},
		"long title":              {one(confirm(101, 300, 30)), "invalid_blocks"},
		"long question":           {one(confirm(100, 301, 30)), "invalid_blocks"},
		"long answer":             {one(confirm(100, 300, 31)), "invalid_blocks"},
		"table":                   {one(table(20, 20)), ""},
		"101 rows":                {one(table(101, 1)), "invalid_blocks"},
		"21 columns":              {one(table(1, 21)), "invalid_blocks"},
		"two tables":              {one(table(1, 1), table(1, 1)), "invalid_attachments"},
		"unknown":                 {one(object{"type": "hologram"}), "invalid_blocks"},
		"only in streams":         {one(object{"type": "alert"}), "invalid_blocks"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			raw, _ := json.Marshal(tc.blocks)
			o := a.call("chat.postMessage", "channel", a.Channel(), "blocks", string(raw))
			if code, _ := o["error"].(string); code != tc.want {
				t.Errorf("got %v, want %q", o, tc.want)
			}
			if tc.want == "invalid_blocks" {
				why := fmt.Sprint(o["response_metadata"].(object)["messages"])
				if !strings.Contains(why, "json-pointer:/blocks") {
					t.Errorf("it does not say where: %s", why)
				}
			}
		})
	}
}

func TestLimitsOfText(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{Unlimited: true})
	ts := a.ok("chat.postMessage", "channel", a.Channel(), "text", strings.Repeat("x", 8001))["ts"].(string)
	parts := a.Messages(a.Channel())
	if len(parts) != 3 || parts[0].TS != ts || len(parts[2].Text) != 1 {
		t.Errorf("Slack splits a long text; there are %d messages", len(parts))
	}
	a.ok("chat.update", "channel", a.Channel(), "ts", ts, "text", strings.Repeat("ä", 4000))
	a.ok("chat.update", "channel", a.Channel(), "ts", ts, "markdown_text", "**new**")
	if got := a.Messages(a.Channel())[0]; got.Shown() != "**new**" || got.Blocks[0].Type != "markdown" {
		t.Errorf("it shows %+v", got)
	}
	if got := a.code("chat.update", "channel", a.Channel(), "ts", ts, "markdown_text", strings.Repeat("x", 12001)); got != "msg_too_long" {
		t.Error(got)
	}
}

func TestATableReadsAsLines(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{})
	raw, _ := json.Marshal([]object{table(2, 3), {"type": "rich_text", "elements": []object{
		{"type": "rich_text_preformatted", "elements": []object{{"type": "text", "text": "uptime"}}},
	}}})
	a.ok("chat.postMessage", "channel", a.Channel(), "blocks", string(raw))
	if got := a.Messages(a.Channel())[0].Shown(); got != "x | x | x\nx | x | x\n\nuptime" {
		t.Errorf("%q", got)
	}
}

// Whatever is sent as blocks, there is an answer, and the server lives on.
func FuzzBlocks(f *testing.F) {
	for _, seed := range []string{card, `[null]`, `[{}]`, `[{"type":"actions","elements":[null,{"type":"button","text":7}]}]`, `[{"type":"table","rows":[null,[null]]}]`, `{`, `[{"type":"section","fields":[null],"accessory":{"type":"button"}}]`} {
		f.Add(seed)
	}
	s, err := slacktest.Start(slacktest.Options{Unlimited: true, NoEcho: true})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	s.AddUser(slacktest.User{ID: "U0ALICE"})
	f.Fuzz(func(t *testing.T, blocks string) {
		a := &app{Server: s, t: t}
		o := a.call("chat.postMessage", "channel", s.Channel(), "text", "x", "blocks", blocks)
		if _, said := o["ok"].(bool); !said {
			t.Errorf("the answer is %v", o)
		}
		view, _ := json.Marshal(object{"type": "home", "blocks": json.RawMessage("[]"), "private_metadata": blocks})
		a.ok("views.publish", "user_id", "U0ALICE", "view", string(view))
	})
}
