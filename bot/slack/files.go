package slack

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	slackgo "github.com/slack-go/slack"

	"bgbot/bot"
)

// upload is how far the files of a message came.
type upload struct {
	ids    map[int]string // what Slack calls the files that it has, by their place in the message
	lost   time.Time      // when the answer to sharing them was lost
	failed int
}

// fileTries is how often the files of one message are tried. The text stands already, and a message that fails for long is
// taken for one that Slack refuses whole.
const fileTries = 4

// shareWait is how long files without a message may take, so that the rest of the caller's time is for looking.
const shareWait = 4 * time.Second

// File shows files in the thread of p, without a message before them. After a lost answer, or one that is late, it looks:
// whoever hears that they are not there shows them again.
func (s *sender) File(ctx context.Context, p bot.Place, files []bot.File) error {
	if err := s.serves(p); err != nil {
		return err
	}
	whole := &try{halved: -1, since: s.latest()}
	soon, cancel := context.WithTimeout(ctx, shareWait)
	defer cancel()
	err := s.share(soon, p, whole, files)
	if whole.files.lost.IsZero() {
		return err
	}
	if there, _ := s.shared(ctx, p, whole); there {
		return nil
	}
	return err
}

// attach shows files in the thread of p, all in one message. What cannot be shown is said; the text is never lost with it. That
// Slack refuses the files is no refusal of the message, whose text stands: the core would say that once more, and shorter.
func (s *sender) attach(ctx context.Context, p bot.Place, whole *try, files []bot.File) error {
	files = slices.DeleteFunc(slices.Clone(files), func(f bot.File) bool { return len(f.Data) == 0 }) // Slack takes none
	if len(files) == 0 {
		return nil
	}
	err := s.share(ctx, p, whole, files)
	if err == nil {
		return nil
	}
	if _, busy := errors.AsType[*bot.Busy](err); busy {
		return err
	}
	fatal, hopeless := errors.AsType[*bot.Fatal](err)
	_, refused := errors.AsType[*bot.Refused](err)
	if whole.files.failed++; !hopeless && !refused && whole.files.failed < fileTries {
		return err
	}
	s.log.ErrorContext(ctx, "files are not in the chat", "place", p.String(), "err", err)
	note := "📎 Not here, as Slack did not take them: " + names(files) + "."
	if hopeless {
		note += "\n" + fatal.Reason
	}
	return s.put(ctx, p, followUp(whole.ts, noteOfFiles), messages(bot.Text{Body: note}, -1)[0])
}

// noteOfFiles is where the note about files stands behind a message, beyond all parts of it.
const noteOfFiles = 1_000_000

func names(files []bot.File) string {
	all := make([]string, len(files))
	for i, f := range files {
		all[i] = "`" + strings.ReplaceAll(f.Name, "`", "'") + "`"
	}
	return strings.Join(all, ", ")
}

// share uploads files, which nobody sees yet, and puts them into the thread. After a lost answer it looks first.
func (s *sender) share(ctx context.Context, p bot.Place, whole *try, files []bot.File) error {
	up := &whole.files
	if up.ids == nil {
		up.ids = map[int]string{}
	}
	complete := slackgo.CompleteUploadExternalParameters{Channel: s.channel, ThreadTimestamp: p.Thread}
	for i, f := range files {
		if up.ids[i] == "" {
			id, err := s.upload(ctx, f)
			if err != nil {
				return err
			}
			up.ids[i] = id
		}
		complete.Files = append(complete.Files, slackgo.FileSummary{ID: up.ids[i], Title: f.Name})
	}
	if !up.lost.IsZero() {
		there, err := s.shared(ctx, p, whole)
		if err != nil || there {
			return err
		}
	}
	done, err := s.api.CompleteUploadExternalContext(ctx, complete)
	if err == nil && len(done.Files) != len(files) {
		err = errNoID
	}
	if unsure(err) {
		up.lost = time.Now()
	}
	return classify("files.completeUploadExternal", err)
}

// upload brings one file to Slack. The error of the transfer is not passed on: its address is a secret.
func (s *sender) upload(ctx context.Context, f bot.File) (id string, err error) {
	params := slackgo.GetUploadURLExternalParameters{FileName: f.Name, FileSize: len(f.Data)}
	switch {
	case strings.HasPrefix(f.Type, "text/"):
		params.SnippetType = "text" // shown with its first lines
	case strings.HasPrefix(f.Type, "image/"):
		params.AltTxt = f.Name
	}
	to, err := s.api.GetUploadURLExternalContext(ctx, params)
	if err == nil && to.UploadURL == "" {
		err = errNoID
	}
	if err != nil {
		return "", classify("files.getUploadURLExternal", err)
	}
	err = s.api.UploadToURL(ctx, slackgo.UploadToURLParameters{UploadURL: to.UploadURL, Reader: bytes.NewReader(f.Data), Filename: f.Name})
	if after, busy := limited(err); busy {
		return "", &bot.Busy{After: after}
	}
	if err != nil {
		return "", errors.New("slack: the transfer of " + f.Name + " failed")
	}
	return to.FileID, nil
}

// shared looks whether the files stand in the thread already.
func (s *sender) shared(ctx context.Context, p bot.Place, whole *try) (bool, error) {
	ts, err := s.look(ctx, p, whole.files.lost, cmp.Or(whole.ts, whole.since), func(m slackgo.Message) bool {
		return slices.ContainsFunc(m.Files, func(f slackgo.File) bool { return f.ID == whole.files.ids[0] })
	})
	whole.files.lost = time.Time{}
	return ts != "", err
}
