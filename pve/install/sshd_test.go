package install_test

import (
	"os"
	"strings"
	"testing"
)

func TestSSHDIsAskedFirstAndTakenBack(t *testing.T) {
	t.Parallel()
	const file = "etc/ssh/sshd_config.d/50-bgbot.conf"
	r := newRig(t)
	r.host.sshdConfig()
	r.apply(r.options)
	r.options.SSHD = true
	for _, c := range []struct {
		name, want string
		breaks     func()
	}{
		{
			"its configuration is broken already", "sshd on HOST refuses its own configuration already, so it was not touched: ROOT/etc/ssh/sshd_config: terminating, 1 bad configuration options",
			func() { r.host.write("etc/ssh/sshd_config", r.host.read("etc/ssh/sshd_config")+"Nonsense yes\n") },
		},
		{
			"it refuses the new file", "sshd on HOST does not take ROOT/" + file + ": ROOT/" + file + ": terminating, 1 bad configuration options. It was taken back.",
			func() {
				r.options.OpenSSH = "99.1" // it is not
				r.host.program("sshd", `sed -i "s/^PerSourcePenaltyExemptList/Nonsense/" `+r.host.at(file)+` 2>/dev/null; exec /usr/sbin/sshd "$@"`)
			},
		},
		{
			"it is not reloaded", "sshd on HOST could not be told to read ROOT/" + file + ": Job for ssh.service failed.. It was taken back.",
			func() { r.host.write("no-reload", "") },
		},
		{
			"it has no such folder", "sshd on HOST has no ROOT/etc/ssh/sshd_config.d; leave --sshd out and put the printed lines into its sshd_config.",
			func() { r.host.must(os.Remove(r.host.at("etc/ssh/sshd_config.d"))) },
		},
	} {
		t.Log(c.name)
		r.refused(c.want, c.breaks)
	}

	_, own, _ := strings.Cut(r.host.read("etc/ssh/sshd_config"), "\n")
	r.host.write("etc/ssh/sshd_config", own)
	_, _, err := r.work(r.options).Apply(r.context())
	r.sentence(err, "ROOT/"+file+" on HOST was taken back: sshd does not heed it. Its sshd_config must say, before any Match: Include ROOT/etc/ssh/sshd_config.d/*.conf")
	if _, err := os.Stat(r.host.at(file)); err == nil {
		t.Error("the file that nobody heeds is still there")
	}
	r.host.write("etc/ssh/sshd_config", "Include "+r.host.at("etc/ssh/sshd_config.d")+"/*.conf\n"+own)
	r.says(r.apply(r.options), "✓ made       ROOT/"+file)
	if got := r.host.read(file); !strings.Contains(got, "\n#PerSourcePenaltyExemptList 127.0.0.1\n") {
		t.Errorf("OpenSSH 9.2 would refuse to start with\n%s", got)
	}
	if log := r.host.read("systemctl.log"); !strings.Contains(log, "reload ssh\n") {
		t.Errorf("nobody told sshd: %s", log)
	}
}
