package slacktest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// Block is one block of a message or view, read.
type Block struct {
	Type    string
	ID      string
	Text    string // what it says: Markdown of a markdown block, mrkdwn or plain text of others; table rows are lines
	Buttons []Button
	Raw     json.RawMessage // with the ids that Slack fills in
}

// Button is what a person can press.
type Button struct {
	ActionID, BlockID, Value, Label, Style, URL string
	Confirm                                     *Confirm // the client asks first
	raw                                         object
}

// Confirm is the question that a client asks before it sends a click.
type Confirm struct{ Title, Text, OK, Deny string }

// The limits of Slack's reference. That of the whole payload is not documented; 13,172 characters were seen to fail.
const (
	maxBlocks     = 50
	maxViewBlocks = 100
	maxPayload    = 13150
	maxMarkdown   = 12000
)

// reading checks blocks as it reads them.
type reading struct {
	s        *Server
	problems []string
	blockIDs map[string]bool
	actions  map[string]bool // within one block
	markdown int
	tables   int
}

// blocks reads and checks the blocks of a message. The lock is held by the caller.
func (s *Server) blocks(text string, most int) ([]Block, error) {
	if text == "" {
		return nil, nil
	}
	var raw []object
	if err := json.Unmarshal([]byte(text), &raw); err != nil || slices.ContainsFunc(raw, func(b object) bool { return b == nil }) {
		return nil, refuse("invalid_blocks_format")
	}
	if len(raw) > most {
		return nil, refuse("msg_blocks_too_many")
	}
	r := &reading{s: s, blockIDs: map[string]bool{}}
	blocks := make([]Block, 0, len(raw))
	for i, b := range raw {
		blocks = append(blocks, r.block(fmt.Sprintf("/blocks/%d", i), b))
	}
	if r.markdown > maxMarkdown {
		r.problem("/blocks", "all markdown blocks together must be less than %d characters", maxMarkdown+1)
	}
	if r.tables > 1 {
		return nil, invalid("invalid_attachments", "only_one_table_allowed")
	}
	if len(r.problems) > 0 {
		return nil, invalid("invalid_blocks", r.problems...)
	}
	if most == maxBlocks && utf8.RuneCountInString(text) > maxPayload {
		return nil, refuse("msg_blocks_too_long")
	}
	return blocks, nil
}

func (r *reading) problem(at, format string, args ...any) {
	r.problems = append(r.problems, "[ERROR] "+fmt.Sprintf(format, args...)+" [json-pointer:"+at+"]")
}

// size complains when text is missing or has more than most characters.
func (r *reading) size(at, text string, most int) {
	switch n := utf8.RuneCountInString(text); {
	case n > most:
		r.problem(at, "must be less than %d characters", most+1)
	case n == 0:
		r.problem(at, "must be more than 0 characters")
	}
}

func (r *reading) block(at string, b object) Block {
	out := Block{Type: str(b, "type"), ID: str(b, "block_id")}
	if out.ID == "" || out.Type == "markdown" { // a markdown block's own id is ignored
		out.ID = r.s.id("b")
	}
	if r.blockIDs[out.ID] {
		r.problem(at+"/block_id", "`block_id` %s already exists", out.ID)
	}
	r.size(at+"/block_id", out.ID, 255)
	r.blockIDs[out.ID], r.actions = true, map[string]bool{}
	b["block_id"] = out.ID
	switch out.Type {
	case "markdown":
		out.Text = str(b, "text")
		r.markdown += utf8.RuneCountInString(out.Text)
		r.size(at+"/text", out.Text, maxMarkdown)
	case "section":
		r.section(at, b, &out)
	case "header":
		out.Text = r.text(at+"/text", b["text"], 150)
	case "context":
		out.Text = r.elements(at, b, 10, &out)
	case "actions":
		out.Text = r.elements(at, b, 25, &out)
	case "context_actions":
		out.Text = r.elements(at, b, 5, &out)
	case "table":
		r.tables++
		out.Text = r.table(at, b)
	case "rich_text", "plan", "task_card":
		out.Text = strings.TrimSpace(said(b))
	case "image", "divider", "file", "input", "video":
	case "alert", "card", "carousel":
		r.problem(at, "unsupported type: %s", out.Type) // inside the chunks of a stream only
	default:
		r.problem(at+"/type", "unsupported type: %s", out.Type)
	}
	out.Raw, _ = json.Marshal(b) // it came from JSON
	return out
}

func (r *reading) section(at string, b object, out *Block) {
	fields, _ := b["fields"].([]any)
	if b["text"] == nil && len(fields) == 0 {
		r.problem(at, "missing required field: text or fields")
	}
	if b["text"] != nil {
		out.Text = r.text(at+"/text", b["text"], 3000)
	}
	if len(fields) > 10 {
		r.problem(at+"/fields", "no more than 10 items allowed")
	}
	for i, f := range fields {
		out.Text = strings.TrimSpace(out.Text + "\n" + r.text(fmt.Sprintf("%s/fields/%d", at, i), f, 2000))
	}
	if e, ok := b["accessory"].(object); ok {
		r.element(at+"/accessory", e, out)
	}
}

// elements reads those of an actions or context block and gives what they say.
func (r *reading) elements(at string, b object, most int, out *Block) string {
	all, _ := b["elements"].([]any)
	if len(all) == 0 {
		r.problem(at+"/elements", "must have at least 1 item")
	}
	if len(all) > most {
		r.problem(at+"/elements", "no more than %d items allowed", most)
	}
	var texts []string
	for i, e := range all {
		if e, ok := e.(object); ok {
			texts = append(texts, r.element(fmt.Sprintf("%s/elements/%d", at, i), e, out))
		}
	}
	return strings.TrimSpace(strings.Join(texts, " "))
}

func (r *reading) element(at string, e object, out *Block) string {
	switch str(e, "type") {
	case "plain_text", "mrkdwn":
		return r.text(at, e, 3000)
	case "button":
		out.Buttons = append(out.Buttons, r.button(at, e, out.ID))
	case "":
		r.problem(at+"/type", "missing required field: type")
	}
	return ""
}

func (r *reading) button(at string, e object, blockID string) Button {
	b := Button{
		ActionID: str(e, "action_id"), BlockID: blockID, Value: str(e, "value"), Style: str(e, "style"), URL: str(e, "url"), raw: e,
	}
	if b.ActionID == "" {
		b.ActionID = r.s.id("a")
		e["action_id"] = b.ActionID
	}
	if r.actions[b.ActionID] {
		r.problem(at+"/action_id", "`action_id` %s already exists for this block", b.ActionID)
	}
	r.actions[b.ActionID] = true
	r.size(at+"/action_id", b.ActionID, 255)
	b.Label = r.text(at+"/text", e["text"], 75)
	if t, ok := e["text"].(object); ok && str(t, "type") != "plain_text" {
		r.problem(at+"/text/type", "must be plain_text")
	}
	if n := utf8.RuneCountInString(b.Value); n > 2000 {
		r.problem(at+"/value", "must be less than 2001 characters")
	}
	if n := utf8.RuneCountInString(b.URL); n > 3000 {
		r.problem(at+"/url", "must be less than 3001 characters")
	}
	if b.Style != "" && b.Style != "primary" && b.Style != "danger" {
		r.problem(at+"/style", "must be one of primary, danger")
	}
	if c, ok := e["confirm"].(object); ok {
		b.Confirm = &Confirm{
			Title: r.text(at+"/confirm/title", c["title"], 100), Text: r.text(at+"/confirm/text", c["text"], 300),
			OK: r.text(at+"/confirm/confirm", c["confirm"], 30), Deny: r.text(at+"/confirm/deny", c["deny"], 30),
		}
	}
	return b
}

// text reads a text object.
func (r *reading) text(at string, v any, most int) string {
	o, ok := v.(object)
	if !ok {
		r.problem(at, "missing required field: text")
		return ""
	}
	if kind := str(o, "type"); kind != "plain_text" && kind != "mrkdwn" {
		r.problem(at+"/type", "must be plain_text or mrkdwn")
	}
	r.size(at+"/text", str(o, "text"), most)
	return str(o, "text")
}

func (r *reading) table(at string, b object) string {
	rows, _ := b["rows"].([]any)
	if len(rows) == 0 || len(rows) > 100 {
		r.problem(at+"/rows", "must have 1 to 100 items")
	}
	var lines []string
	for i, row := range rows {
		cells, _ := row.([]any)
		if len(cells) == 0 || len(cells) > 20 {
			r.problem(fmt.Sprintf("%s/rows/%d", at, i), "must have 1 to 20 items")
		}
		texts := make([]string, len(cells))
		for k, cell := range cells {
			texts[k] = strings.TrimSpace(said(cell))
		}
		lines = append(lines, strings.Join(texts, " | "))
	}
	text := strings.Join(lines, "\n")
	if utf8.RuneCountInString(text) > 10000 {
		r.problem(at, "must be less than 10001 characters")
	}
	return text
}

// said gathers the texts in a tree of elements.
func said(v any) string {
	switch v := v.(type) {
	case []any:
		var b strings.Builder
		for _, e := range v {
			b.WriteString(said(e))
		}
		return b.String()
	case object:
		if text, ok := v["text"].(string); ok {
			return text
		}
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(v)) {
			if _, nested := v[k].(string); !nested {
				b.WriteString(said(v[k]))
			}
		}
		return b.String()
	}
	return ""
}

// str is a string field of o, or nothing.
func str(o object, key string) string {
	text, _ := o[key].(string)
	return text
}
