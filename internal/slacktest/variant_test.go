package slacktest_test

import (
	"encoding/json"
	"testing"

	"bgbot/internal/slacktest"
)

// Each shape arrives as it was made, under a name of its own, and is acked by a client that acks everything.
func TestVariants(t *testing.T) {
	t.Parallel()
	a := start(t, slacktest.Options{NoEcho: true, Unlimited: true})
	a.join()
	l := a.connect(false)
	l.payload()
	ts := a.ok("chat.postMessage", "channel", a.Channel(), "blocks", card)["ts"].(string)
	all := a.Variants("U0ALICE", "status")
	all = append(all, must[[]slacktest.Variant](t)(a.CommandVariants("U0ALICE", "/vm", "status"))...)
	all = append(all, must[[]slacktest.Variant](t)(a.ClickVariants("U0ALICE", ts, "yes"))...)
	names, count := map[string]bool{}, map[slacktest.Verdict]int{}
	for _, v := range all {
		if names[v.Name] {
			t.Errorf("two are called %q", v.Name)
		}
		names[v.Name] = true
		count[v.Verdict]++
		sent := a.SendVariant(v)
		f := l.next()
		got, _ := json.Marshal(f["payload"])
		var want any
		if err := json.Unmarshal(v.Payload, &want); err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		if again, _ := json.Marshal(want); string(got) != string(again) || f["type"] != v.Kind {
			t.Errorf("%s: got %s, want %s", v.Name, got, again)
		}
		must[slacktest.Ack](t)(a.AwaitAck(a.deadline(), sent.Envelope))
	}
	if count[slacktest.Must] < 8 || count[slacktest.MustNot] < 80 {
		t.Errorf("there are %v", count)
	}
	t.Logf("%d shapes: %v", len(all), count)
}
