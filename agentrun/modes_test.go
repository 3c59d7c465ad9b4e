package agentrun

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The cage has no right for modes (landlock(7)), so a command can open a key of our user to all on the machine.
func TestAPrivateFileThatACommandOpenedIsShutAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, data := filepath.Join(dir, "key"), filepath.Join(dir, "bgbot.db")
	write(t, key, "PRIVATE")
	write(t, data, "DATA")
	r := newRig(t, func(c *Config) { c.Private = []string{key, data, "", filepath.Join(dir, "none")} })
	s := newSession()
	rec := all(t, r.Start(t.Context(), prompt(s, script(step{"bash": "chmod 0644 " + key + "; chmod 0 " + data}, step{"text": "x"})), allow))
	answer(t, rec)
	for _, n := range each[Notice](rec) {
		if n.Alarm {
			t.Errorf("an alarm before anything was done: %s", n.Text)
		}
	}

	rec = all(t, r.Start(t.Context(), prompt(newSession(), script(step{"text": "x"})), allow))
	answer(t, rec)
	alarms := slices.DeleteFunc(each[Notice](rec), func(n Notice) bool { return !n.Alarm })
	if len(alarms) != 2 {
		t.Fatalf("the alarms: %v", alarms)
	}
	const end = " Commands of the agent can do that; look at who has read it since."
	for i, want := range []string{
		key + " had mode 0644, not 0600 as at the start, and has been put right." + end,
		data + " had mode 0000, not 0600 as at the start, and has been put right." + end,
	} {
		if alarms[i].Text != want {
			t.Errorf("got  %s\nwant %s", alarms[i].Text, want)
		}
	}
	for _, path := range []string{key, data} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}
