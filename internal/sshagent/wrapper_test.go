package sshagent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheWrapperTakesAHostAndACommandOnly(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	h := newHost(t, key.PublicKey())
	s := open(t, h.alias("devvm", key), h.alias("pve", key))
	const say = "ssh: say: ssh HOST COMMAND, where HOST is devvm, pve.\n"
	option := func(o string) string { return "ssh: The option " + o + " is not accepted; everything is set.\n" + say }
	behind := func(o string) string {
		return "ssh: The option " + o + " is not accepted; everything is set, and a command does not begin with a dash.\n" + say
	}
	marker := filepath.Join(s.home, "ran-here")
	for command, want := range map[string]string{
		"ssh -o ProxyCommand='touch ran-here' devvm x":    option("-o"),
		"ssh -oProxyCommand='touch ran-here' devvm x":     option("-oProxyCommand"),
		"ssh -T -o ProxyCommand='touch ran-here' devvm x": option("-o"),
		"ssh devvm -o ProxyCommand='touch ran-here' x":    behind("-o"),
		"ssh devvm -oProxyCommand='touch ran-here' x":     behind("-oProxyCommand"),
		"ssh devvm -T x": behind("-T"),
		"ssh devvm -- -oProxyCommand='touch ran-here' x": behind("-oProxyCommand"),
		"ssh -- devvm -oProxyCommand='touch ran-here' x": option("--"),
		"ssh devvm -- -- x":                             behind("--"),
		"ssh -F /dev/null devvm x":                      option("-F"),
		"ssh -F/dev/null devvm x":                       option("-F"),
		"ssh -J root@127.0.0.1 devvm x":                 option("-J"),
		"ssh -L 1:127.0.0.1:2 devvm x":                  option("-L"),
		"ssh -R 1:127.0.0.1:2 devvm x":                  option("-R"),
		"ssh -D 1 devvm x":                              option("-D"),
		"ssh -E ran-here devvm x":                       option("-E"),
		"ssh -i /root/.ssh/id_ed25519 devvm x":          option("-i"),
		"ssh -A devvm x":                                option("-A"),
		"ssh -Tn devvm x":                               option("-Tn"),
		"ssh '-o\nProxyCommand=touch ran-here' devvm x": option("-o"),
		"ssh root@devvm x":                              "ssh: No user is accepted; each host has its own.\n" + say,
		"ssh":                                           "ssh: No host is named.\n" + say,
		"ssh ''":                                        "ssh: No host is named.\n" + say,
		"ssh 10.0.10.10 x":                              "ssh: There is no host 10.0.10.10 here.\n" + say,
		"ssh 'devvm pve' x":                             "ssh: There is no host devvm pve here.\n" + say,
		"ssh 'd*' x":                                    "ssh: There is no host d* here.\n" + say,
		"ssh ssh://devvm x":                             "ssh: There is no host ssh://devvm here.\n" + say,
		"scp devvm:/etc/hosts .":                        "scp: not offered here. To read a file say: ssh devvm cat FILE\n",
		"sftp devvm":                                    "sftp: not offered here. To read a file say: ssh devvm cat FILE\n",
		"rsync -e 'sh -c \"touch ran-here\"' devvm:/etc/hosts .": "rsync: not offered here. To read a file say: ssh devvm cat FILE\n",
	} {
		out, errs, exit := s.run(command)
		if out != "" || errs != want || exit != 2 {
			t.Errorf("%s\n got exit %d, %q, %q\nwant exit 2, %q", command, exit, out, errs, want)
		}
		if _, err := os.Lstat(marker); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%s ran something here", command)
		}
	}
	if n := s.agent.signatures(); n != 0 {
		t.Errorf("%d signatures for commands that were refused", n)
	}
}

func TestTheWrapperPassesTheCommandOnAsItIs(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, newHost(t, key.PublicKey()).alias("devvm", key))
	for command, want := range map[string]string{
		`ssh devvm echo a '"b  c"' '$((1+1))'`:             "a b  c 2\n",
		`ssh devvm -- echo a`:                              "a\n",
		`ssh -tt -T -q devvm echo a`:                       "a\n",
		`ssh devvm echo -o ProxyCommand=id`:                "-o ProxyCommand=id\n",
		`ssh devvm 'echo one; true' -x`:                    "one\n",
		"ssh devvm <<'EOF'\necho from stdin\nEOF":          "from stdin\n",
		`ssh devvm 'test -t 0 && echo tty || echo no tty'`: "no tty\n",
	} {
		if out, errs, exit := s.run(command); out != want || exit != 0 {
			t.Errorf("%s: got exit %d, %q, %q; want %q", command, exit, out, errs, want)
		}
	}
}

func TestTheUsersOwnFilesAreNotNamed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	s := open(t, newHost(t, key.PublicKey()).alias("devvm", key))
	out, errs, exit := s.run(needProgram(t, "ssh") + " -G -F " + s.agent.dir + "/config devvm")
	if exit != 0 {
		t.Fatal(errs)
	}
	for line := range strings.SplitSeq(out, "\n") {
		if strings.Contains(line, ".ssh") || strings.Contains(line, "/etc/ssh") && !strings.HasPrefix(line, "xauth") {
			t.Errorf("ssh would use %s", line)
		}
	}
	for _, want := range []string{"stricthostkeychecking true", "identitiesonly yes", "batchmode yes", "forwardagent no", "permitlocalcommand no", "clearallforwardings yes", "controlmaster false", "identityagent " + s.agent.socket} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("ssh -G has no %q", want)
		}
	}
}
