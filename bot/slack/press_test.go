package slack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"bgbot/internal/slacktest"
	"bgbot/internal/sshdtest"
	"bgbot/pve"
)

// A card is open while its socket meets every bad luck: just before the press, so that Slack has nowhere to send it or
// sends it where nobody hears, and, where that differs, just behind it, so that its acknowledgement may be lost. Slack
// sends it again, once more than it must. The host is asked once.
func TestAPressThroughEveryDisruption(t *testing.T) {
	t.Parallel()
	sshd := sshdtest.New(t, sshdtest.Options{})
	for _, d := range luck {
		for _, when := range []string{"before the press", "behind the press"} {
			if when == "behind the press" && !slices.Contains([]slacktest.Disruption{slacktest.RefreshSilent, slacktest.HalfOpen, slacktest.ResetSocket}, d) {
				continue
			}
			ran := filepath.Join(t.TempDir(), "ran")
			key := sshd.AddKey(sshdtest.ForcedCommand("/bin/sh", "-c", `echo "$SSH_ORIGINAL_COMMAND" >>`+ran+
				`; echo "{\"result\":{\"verb\":\"$SSH_ORIGINAL_COMMAND\",\"vmid\":102,\"op\":\"c81f\",\"exit\":0,\"status\":\"stopped\",\"text\":\"done\"}}"`))
			host := pve.Host{Name: "the Proxmox host", Address: sshd.Address, User: sshd.User, Signer: key.Signer, HostKey: sshd.HostKey}
			t.Run(fmt.Sprintf("%s %s", d, when), func(t *testing.T) {
				t.Parallel()
				o := briskly()
				o.WarnAhead = 100 * time.Millisecond
				s := serveIn(t, newWorkspace(t, o), host)
				ctx, cancel := context.WithTimeout(t.Context(), patientTest)
				defer cancel()
				card := s.asksToStop(ctx, t)
				press := func() slacktest.Sent {
					sent, err := s.Click(operator, card.TS, card.Buttons()[0].ActionID)
					if err != nil {
						t.Fatal(err)
					}
					return sent
				}
				var sent slacktest.Sent
				if when == "before the press" {
					s.Disrupt(d)
					sent = press()
				} else {
					sent = press()
					s.Disrupt(d)
				}
				ack, err := s.AwaitAck(ctx, sent.Envelope)
				if err != nil {
					t.Fatalf("%v; %+v", err, s.Truth())
				}
				t.Logf("acknowledged after %s and %d attempts", ack.After, ack.Attempts)
				s.shows(ctx, t, card.ThreadTS, "⏹ devvm is stopped")
				for again := s.Repeat(sent.Envelope); again != nil; again = s.Repeat(sent.Envelope) { // once there is a socket
					<-time.After(5 * time.Millisecond)
				}
				s.says(t, "model m1") // what comes behind it
				s.until(ctx, t, "the answer to what came behind it", func() bool { return len(s.acted()) > 0 })
				s.stop()
				all, err := os.ReadFile(ran)
				if err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(string(all), "stop\n"); n != 1 {
					t.Errorf("the host was asked %d times: %q; %+v", n, all, s.Truth())
				}
			})
		}
	}
}

// asksToStop has the operator ask for a stop of the VM and returns the card.
func (s *service) asksToStop(ctx context.Context, t *testing.T) slacktest.Message {
	t.Helper()
	if err := s.AwaitSockets(ctx, 1, 0); err != nil {
		t.Fatal(err)
	}
	return s.shows(ctx, t, s.says(t, "vm stop"), "🔴 Stop devvm?")
}

// says has the operator begin a thread.
func (s *service) says(t *testing.T, text string) (thread string) {
	t.Helper()
	sent, err := s.Say(operator, "", text)
	if err != nil {
		t.Fatal(err)
	}
	return sent.TS
}

// shows waits for a message in a thread that begins so.
func (s *service) shows(ctx context.Context, t *testing.T, thread, begin string) (found slacktest.Message) {
	t.Helper()
	s.until(ctx, t, begin, func() bool {
		for _, m := range s.Thread(thread) {
			if strings.HasPrefix(m.Shown(), begin) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

// until waits for something that nobody announces.
func (s *service) until(ctx context.Context, t *testing.T, what string, is func() bool) {
	t.Helper()
	for !is() {
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			var shown []string
			for _, m := range s.Messages(s.Channel()) {
				for _, m := range s.Thread(m.TS) {
					shown = append(shown, m.Shown())
				}
			}
			t.Fatalf("%s did not come; %+v; the channel shows:\n%s", what, s.Truth(), strings.Join(shown, "\n"))
		}
	}
}
