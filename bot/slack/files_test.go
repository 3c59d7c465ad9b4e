package slack

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"bgbot/bot"
	"bgbot/internal/slacktest"
)

// capture is what forensics leave behind.
func capture() []bot.File {
	return []bot.File{
		{Name: "forensics-c81f.txt", Type: "text/plain", Data: []byte(strings.Repeat("block 17 is stuck\n", 5000))},
		{Name: "screen-c81f.png", Type: "image/png", Data: append([]byte("\x89PNG\r\n\x1a\n"), bytes.Repeat([]byte{7}, 40_000)...)},
		{Name: "empty.txt", Type: "text/plain"},
	}
}

// filed finds the files of a thread and the messages that they are in.
func (s says) filed(p bot.Place) (files []slacktest.File, messages int) {
	for _, m := range s.replies(p) {
		files = append(files, m.Files...)
		if len(m.Files) > 0 {
			messages++
		}
	}
	return files, messages
}

func TestFilesStandInTheThreadBehindTheText(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	id := s.persist(t, p, bot.Text{Body: "✅ devvm is back", Files: capture()})
	all := s.replies(p)
	if len(all) != 2 || all[0].TS != id || all[0].Shown() != "✅ devvm is back" || len(all[1].Files) != 2 {
		t.Fatalf("got %+v", all)
	}
	for i, f := range all[1].Files {
		want := capture()[i]
		if f.Name != want.Name || f.Title != want.Name || !bytes.Equal(f.Data, want.Data) {
			t.Errorf("file %d is %s %q with %d bytes", i, f.Name, f.Title, len(f.Data))
		}
	}
	calls := s.server.Calls("files.getUploadURLExternal")
	if len(calls) != 2 || calls[0].Args["snippet_type"] != "text" || calls[1].Args["alt_txt"] != "screen-c81f.png" {
		t.Errorf("asked %+v", calls)
	}
}

func TestFilesAloneAreOneMessage(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	p := s.thread(t)
	if err := s.File(s.ctx, p, capture()[:2]); err != nil {
		t.Fatal(err)
	}
	if files, n := s.filed(p); len(files) != 2 || n != 1 || len(s.replies(p)) != 1 {
		t.Errorf("%d files in %d of %d messages", len(files), n, len(s.replies(p)))
	}
	s.server.Inject(slacktest.Fault{Methods: []string{"upload"}, Kind: slacktest.HTML502, Times: 1})
	if err := s.File(s.ctx, p, capture()[:1]); err == nil {
		t.Error("no error, and no file")
	}
}

// The answer that the files belong to takes them along if they are not there.
func TestFilesAloneAreKnownToBeThereAfterALostAnswer(t *testing.T) {
	t.Parallel()
	for _, kind := range []slacktest.FaultKind{slacktest.ResetAfterDone, slacktest.HangAfterDone, slacktest.Reset} {
		t.Run(kind.String(), func(t *testing.T) {
			t.Parallel()
			s := saying(t, slacktest.Options{Unlimited: true})
			p := s.thread(t)
			s.server.Inject(slacktest.Fault{Methods: []string{"files.completeUploadExternal"}, Kind: kind, Times: 1})
			ctx, cancel := context.WithTimeout(s.ctx, 10*time.Second) // as the core does
			defer cancel()
			err := s.File(ctx, p, capture()[:1])
			if files, _ := s.filed(p); (err == nil) != (len(files) == 1) {
				t.Errorf("%d files are there, and File says %v", len(files), err)
			}
		})
	}
}

func TestFilesOfAMessageInTheChannelStandInItsThread(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{})
	id := s.persist(t, bot.Place{Channel: s.channel}, bot.Text{Body: "⚠️ devvm does not answer", Files: capture()[:1]})
	if files, n := s.filed(bot.Place{Thread: id}); len(files) != 1 || n != 1 {
		t.Errorf("%d files in %d messages", len(files), n)
	}
}

func TestFilesAreThereOnceWhateverBreaks(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"files.getUploadURLExternal", "files.completeUploadExternal"} {
		for _, kind := range []slacktest.FaultKind{
			slacktest.Reset, slacktest.ResetAfterDone, slacktest.HTML502, slacktest.NoCode, slacktest.Garbage, slacktest.RateLimitedOK,
		} {
			t.Run(method+" "+kind.String(), func(t *testing.T) {
				t.Parallel()
				s := saying(t, slacktest.Options{Unlimited: true})
				p := s.thread(t)
				s.server.Inject(slacktest.Fault{Methods: []string{method}, Kind: kind, Times: 2})
				s.persist(t, p, bot.Text{Body: "✅ devvm is back", Key: "result", Files: capture()})
				files, n := s.filed(p)
				if len(files) != 2 || n != 1 || strings.Count(s.reads(p), "devvm is back") != 1 {
					t.Errorf("%d files in %d messages; it reads %q", len(files), n, s.reads(p))
				}
			})
		}
	}
}

func TestWhatSlackTakesNoFileForIsSaid(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"missing_scope": "📎 Not here, as Slack did not take them: `forensics-c81f.txt`, `screen-c81f.png`.  \n" +
			"The Slack app lacks a scope (missing_scope). Take over `bgbot slack manifest`, install the app again and restart me.",
		"file_uploads_disabled": "📎 Not here, as Slack did not take them: `forensics-c81f.txt`, `screen-c81f.png`.",
	} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			s := saying(t, slacktest.Options{Unlimited: true})
			p := s.thread(t)
			s.server.Inject(slacktest.Fault{Methods: []string{"files.getUploadURLExternal"}, Kind: slacktest.ErrorCode, Error: code})
			s.persist(t, p, bot.Text{Body: "✅ devvm is back", Key: "result", Files: capture()})
			if got := s.reads(p); got != "✅ devvm is back\n"+want {
				t.Errorf("it reads %q", got)
			}
		})
	}
}

// The text stands already: the core, told that the message is refused, would say a short one in its place.
func TestThatFilesAreRefusedIsNoRefusalOfTheirMessage(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"files.getUploadURLExternal", "files.completeUploadExternal"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			s := saying(t, slacktest.Options{Unlimited: true})
			p := s.thread(t)
			s.server.Inject(slacktest.Fault{Methods: []string{method}, Kind: slacktest.ErrorCode, Error: "invalid_arguments"})
			_, err := s.Post(s.ctx, p, bot.Text{Body: "✅ devvm is back", Key: "result", Files: capture()})
			want := "✅ devvm is back\n📎 Not here, as Slack did not take them: `forensics-c81f.txt`, `screen-c81f.png`."
			if got := s.reads(p); got != want || err != nil {
				t.Errorf("it reads %q, and the core hears %v", got, err)
			}
		})
	}
}

func TestALongAnswerWithFilesResumesWhereItStood(t *testing.T) {
	t.Parallel()
	s := saying(t, slacktest.Options{Unlimited: true})
	p := s.thread(t)
	s.server.Inject(slacktest.Fault{Kind: slacktest.Reset, Every: 4})
	s.persist(t, p, bot.Text{Body: longAnswer(), Key: "result", Files: capture()})
	files, n := s.filed(p)
	if got := strings.Count(s.reads(p), "Paragraph "); got != paragraphs || len(files) != 2 || n != 1 {
		t.Errorf("%d paragraphs, %d files in %d messages", got, len(files), n)
	}
}
