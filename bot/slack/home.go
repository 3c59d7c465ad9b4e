package slack

import (
	"context"
	"errors"
	"strings"

	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
)

// homeBlocks is how many blocks of a page the text may take; Slack takes 100, and 250 kB (docs).
const homeBlocks = 40

// sectionSize is the most of a section's text; Slack takes 3,000 characters.
const sectionSize = 2900

// Home shows t on the Home tab of the person with this user ID. Markdown blocks are for messages only (docs), so here the
// text is Slack's older dialect.
func (s *sender) Home(ctx context.Context, person string, t bot.Text) error {
	_, err := s.api.PublishViewContext(ctx, slackgo.PublishViewContextRequest{
		UserID: person, View: slackgo.HomeTabViewRequest{Type: slackgo.VTHomeTab, Blocks: slackgo.Blocks{BlockSet: homePage(t)}},
	})
	if _, known := errors.AsType[slackgo.SlackErrorResponse](err); known && codeOf(err) == "not_enabled" {
		return &bot.Fatal{Reason: "The Home tab of the Slack app is off (not_enabled). Switch it on under App Home on api.slack.com/apps."}
	}
	return classify("views.publish", err)
}

// homePage draws the text, then the buttons.
func homePage(t bot.Text) []slackgo.Block {
	var texts []string
	for _, part := range split(t.Body, sectionSize/2) {
		if texts = append(texts, split(mrkdwn(part), sectionSize)...); len(texts) > homeBlocks {
			texts = append(texts[:homeBlocks], "… and more than Slack shows here.")
			break
		}
	}
	var page []slackgo.Block
	for _, text := range texts {
		if strings.TrimSpace(text) != "" {
			page = append(page, slackgo.NewSectionBlock(&slackgo.TextBlockObject{Type: slackgo.MarkdownType, Text: text, Verbatim: true}, nil, nil))
		}
	}
	return append(page, buttons(t.Choices)...)
}
