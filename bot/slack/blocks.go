package slack

import (
	"fmt"
	"strings"

	"github.com/google/uuid"
	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
)

// message is one message of Slack: a part of a body and, under the last part, the buttons.
type message struct {
	text   string // what a notification says
	blocks []slackgo.Block
}

// messages are what t takes in Slack. From the part halved on, parts are half as long; -1 halves none.
func messages(t bot.Text, halved int) []message {
	var parts []string
	for i, part := range split(dialect(t.Body), partSize) {
		if halved >= 0 && i >= halved {
			parts = append(parts, split(part, partSize/2)...)
		} else {
			parts = append(parts, part)
		}
	}
	var all []message
	for i, part := range parts {
		if strings.TrimSpace(part) == "" {
			part = "…" // Slack takes no empty message
		}
		if i > 0 {
			part = continued(t.Body, part)
		}
		m := message{text: fallback(part), blocks: []slackgo.Block{slackgo.NewMarkdownBlock("", part)}}
		if i == len(parts)-1 {
			m.blocks = append(m.blocks, buttons(t.Choices)...)
		}
		all = append(all, m)
	}
	return all
}

// continued is a further part of body, with a mark in front: without it a part could begin as if the bot had begun to say
// something, and what an agent says, others may have had it say. The mark stands alone before what must begin its line.
func continued(body, part string) string {
	mark := "⋯"
	if strings.HasPrefix(body, "🤖") {
		mark = "🤖 ⋯"
	}
	if first, _, _ := strings.Cut(part, "\n"); starts(first) || strings.HasPrefix(first, "    ") || strings.ContainsAny(first, "|>\t") {
		return mark + "\n\n" + part
	}
	return mark + " " + part
}

// options are m in a call. parse, link_names and unfurling are said each time: with blocks Slack's defaults differ, and
// chat.update parses as a client does unless told not to (docs).
func (m message) options(more ...slackgo.MsgOption) []slackgo.MsgOption {
	return append([]slackgo.MsgOption{
		slackgo.MsgOptionText(m.text, false),
		slackgo.MsgOptionBlocks(m.blocks...),
		slackgo.MsgOptionParse(false),
		slackgo.MsgOptionLinkNames(false),
		slackgo.MsgOptionDisableLinkUnfurl(),
		slackgo.MsgOptionDisableMediaUnfurl(),
	}, more...)
}

// aRow is how many buttons stand in one block; a phone breaks it into lines by itself.
const aRow = 5

// buttons draw choices. The value is the choice's ID and all that a click means; the id of the action only tells the
// buttons of one message apart. The ids of blocks are new each time, as Slack asks of an update (docs). Of more than a row,
// those that are dangerous stand apart, so that a thumb does not slip onto one.
func buttons(choices []bot.Choice) []slackgo.Block {
	var rows []slackgo.Block
	var row []slackgo.BlockElement
	for i, c := range choices {
		row = append(row, button(fmt.Sprintf("choice-%d", i), c))
		last := i == len(choices)-1
		if last || len(row) == aRow || len(choices) > aRow && choices[i+1].Danger != c.Danger {
			rows, row = append(rows, slackgo.NewActionBlock("choices-"+uuid.NewString(), row...)), nil
		}
	}
	return rows
}

// button is one choice. One that only asks, which its label says by "…", needs no question of Slack's before it.
func button(action string, c bot.Choice) *slackgo.ButtonBlockElement {
	b := slackgo.NewButtonBlockElement(action, c.ID, plainText(c.Label, 75))
	if !c.Danger {
		return b
	}
	b = b.WithStyle(slackgo.StyleDanger)
	if strings.HasSuffix(c.Label, "…") {
		return b
	}
	return b.WithConfirm(slackgo.NewConfirmationBlockObject(
		plainText(strings.TrimSuffix(c.Label, "?")+"?", 100),
		plainText("It is done at once and cannot be taken back.", 300),
		plainText(c.Label, 30),
		plainText("Not now", 30),
	).WithStyle(slackgo.StyleDanger))
}

func plainText(s string, most int) *slackgo.TextBlockObject {
	return slackgo.NewTextBlockObject(slackgo.PlainTextType, shorten(s, most), false, false)
}
