package gate

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"bgbot/pve"
)

const usage = `pve-gate is the forced command of a key on a Proxmox host: one verb, on one VM.
In authorized_keys, on one line:

  restrict,command="/usr/local/sbin/pve-gate --vmid 102 --key bgbot --format jsonl --ssh 10.0.10.10:22",from="…" ssh-ed25519 …

The verb is what the client asks for (SSH_ORIGINAL_COMMAND), exactly one of: %s

Exit codes: 0 done, 2 rejected, 3 busy, 4 refused, 5 failed, 6 done but not verified, 7 the gate itself failed.

Flags:
`

// settings are the command line and what counts of the environment.
type settings struct {
	vmid   int
	key    string // how the journal calls the key
	allow  []pve.Verb
	format string // text or jsonl
	dryRun bool
	ssh    string // where the guest's sshd listens; empty if nobody said
	wait   time.Duration

	qmPath, runDir, stateDir string

	asked string // the verb, as the client sent it
	from  string // the client's address
}

// parse reads the command line. A text in place of settings is the answer to --help or --version.
func parse(argv, environ []string) (settings, string, error) {
	var s settings
	var allow string
	var version bool
	flags := flag.NewFlagSet("pve-gate", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&s.vmid, "vmid", 0, "the `number` of the VM; required")
	flags.StringVar(&s.key, "key", "", "the `name` of this key in the journal")
	flags.StringVar(&allow, "allow", "", "the `verbs` of this key, with commas between; all if not given")
	flags.StringVar(&s.format, "format", "text", "text for people, or jsonl for the bot")
	flags.StringVar(&s.ssh, "ssh", "", "the `address` of the guest's sshd, IP:PORT: a start is verified only when it answers there")
	flags.DurationVar(&s.wait, "wait", longestWait, "how `long` a started VM may take until it is called not verified, 60s at most")
	flags.BoolVar(&s.dryRun, "dry-run", false, "say what a change would do; change nothing")
	flags.StringVar(&s.qmPath, "qm", "/usr/sbin/qm", "the `path` of qm, with ha-manager beside it; for tests")
	flags.StringVar(&s.runDir, "run-dir", "/run", "`folder` of qemu-server/VMID.pid and pve-gate/VMID.lock; for tests")
	flags.StringVar(&s.stateDir, "state-dir", "/var/log/pve-gate", "`folder` of the journal and the kept forensics; for tests")
	flags.BoolVar(&version, "version", false, "say which build this is")
	err := flags.Parse(argv[min(1, len(argv)):])
	switch {
	case errors.Is(err, flag.ErrHelp):
		var help bytes.Buffer
		_, _ = fmt.Fprintf(&help, usage, pve.Words())
		flags.SetOutput(&help)
		flags.PrintDefaults()
		return s, strings.TrimSpace(help.String()), nil
	case err != nil:
		return s, "", fmt.Errorf("%w; correct command= in authorized_keys", err)
	case version:
		return s, buildVersion(), nil
	}
	for _, pair := range environ {
		if value, ok := strings.CutPrefix(pair, "SSH_ORIGINAL_COMMAND="); ok {
			s.asked = value
		}
		if value, ok := strings.CutPrefix(pair, "SSH_CONNECTION="); ok {
			s.from, _, _ = strings.Cut(value, " ")
		}
	}
	some := false
	flags.Visit(func(f *flag.Flag) { some = some || f.Name == "allow" })
	switch err = s.check(flags.NArg()); {
	case err != nil:
	case some:
		err = s.allowOnly(allow)
	default:
		s.allow = pve.Verbs()
	}
	return s, "", err
}

func (s *settings) check(extra int) error {
	switch {
	case extra > 0:
		return errors.New("it takes flags only; the verb is SSH_ORIGINAL_COMMAND")
	case s.vmid < 100 || s.vmid > 999999999:
		return errors.New("--vmid must be the number of a VM, 100 or more")
	case s.format != "text" && s.format != "jsonl":
		return fmt.Errorf("--format must be text or jsonl, not %q", s.format)
	case !filepath.IsAbs(s.qmPath) || !filepath.IsAbs(s.runDir) || !filepath.IsAbs(s.stateDir):
		return errors.New("--qm, --run-dir and --state-dir must be absolute paths")
	}
	if s.wait < time.Second || s.wait > longestWait {
		return fmt.Errorf("--wait must be between 1s and %s, not %s", longestWait, s.wait)
	}
	if _, err := netip.ParseAddrPort(s.ssh); s.ssh != "" && err != nil {
		return fmt.Errorf("--ssh must be an IP and a port, such as 10.0.10.10:22, not %q; a name could not be resolved in an incident", s.ssh)
	}
	return nil
}

// allowOnly takes the verbs of a key that has not all of them. No verb at all is a mistake, such as a variable that was
// not set, and must not turn a small key into a big one.
func (s *settings) allowOnly(words string) error {
	if words == "" {
		return errors.New("--allow is empty; name the verbs of this key, or leave --allow out if it may have them all")
	}
	for word := range strings.SplitSeq(words, ",") {
		verb, err := pve.ParseVerb(word)
		if err != nil {
			return fmt.Errorf("--allow: %w", err)
		}
		s.allow = append(s.allow, verb)
	}
	return nil
}

// pidFiles are the names under which Proxmox may have given QEMU its pid file: /var/run is /run, but the words differ.
func (s *settings) pidFiles() []string {
	name := fmt.Sprintf("qemu-server/%d.pid", s.vmid)
	if s.runDir == "/run" {
		return []string{"/var/run/" + name, "/run/" + name}
	}
	return []string{filepath.Join(s.runDir, name)}
}

// qemuFile is one of Proxmox's own files of the VM: 102.qmp is QEMU's monitor, 102.qga its guest agent.
func (s *settings) qemuFile(suffix string) string {
	return filepath.Join(s.runDir, "qemu-server", fmt.Sprintf("%d.%s", s.vmid, suffix))
}

// cgroups are the roots of the tree of control groups, version 2: of a host that has only that, and of one that has both.
func (s *settings) cgroups() []string {
	if s.runDir != "/run" {
		return []string{filepath.Join(s.runDir, "cgroup")}
	}
	return []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}
}

// scope is the cgroup that Proxmox starts the VM in; a host of a test has it in its run folder.
func (s *settings) scope() string {
	return filepath.Join(s.cgroups()[0], "qemu.slice", fmt.Sprintf("%d.scope", s.vmid))
}

// haResources is where the HA manager of Proxmox keeps what it looks after.
func (s *settings) haResources() string {
	if s.runDir != "/run" {
		return filepath.Join(s.runDir, "resources.cfg")
	}
	return "/etc/pve/ha/resources.cfg"
}

// syslog is the socket of the host's log, or that of a test's.
func (s *settings) syslog() string {
	if s.runDir != "/run" {
		return filepath.Join(s.runDir, "log")
	}
	return "/dev/log"
}

// tasks is where Proxmox keeps what its tasks said.
func (s *settings) tasks() string {
	if s.runDir != "/run" {
		return filepath.Join(s.runDir, "tasks")
	}
	return "/var/log/pve/tasks"
}

func (s *settings) runFile(suffix string) string {
	return filepath.Join(s.runDir, "pve-gate", fmt.Sprintf("%d.%s", s.vmid, suffix))
}

func (s *settings) journalFile() string {
	return filepath.Join(s.stateDir, fmt.Sprintf("%d.jsonl", s.vmid))
}

func (s *settings) rejectionsFile() string {
	return filepath.Join(s.stateDir, fmt.Sprintf("%d.rejected.jsonl", s.vmid))
}

func buildVersion() string {
	version := "pve-gate"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return version
	}
	version += " " + info.Main.Version + " " + info.GoVersion
	i := slices.IndexFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "vcs.revision" })
	if i >= 0 {
		version += " " + info.Settings[i].Value
	}
	return version
}
