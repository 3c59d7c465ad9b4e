package agentrun

import (
	"context"
	"testing"
	"time"
)

func TestAQuestionACommandAndAnAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	s := newSession()
	began := time.Now()
	rec := all(t, r.Start(t.Context(), prompt(s, script(
		step{"think": "hm", "text": "Let me look.", "bash": "echo marker-$((40+2))"}, step{"text": "It is 42."})), allow))
	t.Logf("took %s", time.Since(began))
	for _, e := range rec.events {
		t.Logf("%T %+v", e, e)
	}
	if got := answer(t, rec); got != "It is 42." {
		t.Errorf("got %q", got)
	}
	_ = context.Background
}
