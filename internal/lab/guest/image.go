package guest

import (
	"fmt"
	"time"
)

const (
	kib = int64(1) << 10
	mib = int64(1) << 20
	gib = int64(1) << 30
)

// The files that the story of a full /var is about.
const (
	traceLog    = "/var/log/t3-serve/trace.log"
	journalDir  = "/var/log/journal/4f1d0c8e7b6a4d2f9a3e5c7b1d0f2e4a"
	tmpfilesCfg = "/etc/tmpfiles.d/t3-serve.conf"
)

// fromTemplate is a disk as it is before the first boot.
func fromTemplate(name string) (*Disk, error) {
	d := healthy(time.Now().Add(-9*24*time.Hour - 4*time.Hour - 12*time.Minute))
	switch name {
	case "healthy":
		return d, nil
	case "full":
		fill(d)
		return d, nil
	default:
		return nil, fmt.Errorf("there is no disk template %q", name)
	}
}

func healthy(made time.Time) *Disk {
	text := func(s string) *File {
		return &File{Size: int64(len(s)), Text: s, Owner: "root", ModTime: made}
	}
	return &Disk{
		Since: made,
		Mounts: []Mount{
			{Device: "/dev/sda2", Point: "/", Type: "ext4", Size: 48 * gib, Base: 19 * gib},
			{Device: "tmpfs", Point: "/run", Type: "tmpfs", Size: 1600 * mib, Base: 2 * mib, Memory: true},
			{Device: "tmpfs", Point: "/dev/shm", Type: "tmpfs", Size: 8 * gib, Memory: true},
			{Device: "/dev/sda3", Point: "/var", Type: "ext4", Size: 40 * gib, Base: 3500 * mib},
			{Device: "/dev/sda4", Point: "/home", Type: "ext4", Size: 196 * gib, Base: 71 * gib},
		},
		Files: map[string]*File{
			"/etc/hostname":                text("devvm\n"),
			"/etc/os-release":              text("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\nID=debian\n"),
			"/etc/fstab":                   text("/dev/sda2 / ext4 errors=remount-ro 0 1\n/dev/sda3 /var ext4 defaults 0 2\n/dev/sda4 /home ext4 defaults 0 2\n"),
			tmpfilesCfg:                    text("# trace logs are scratch: gone at every boot\nR! /var/log/t3-serve/trace.log*\n"),
			"/etc/t3-serve/config.toml":    text("listen = \"127.0.0.1:3000\"\ndata = \"/var/lib/t3-serve\"\ntrace = false\n"),
			"/home/breakglass":             {Dir: true, Owner: "breakglass", ModTime: made},
			"/root":                        {Dir: true, Owner: "root", ModTime: made},
			"/tmp":                         {Dir: true, Owner: "root", ModTime: made},
			"/usr/bin":                     {Dir: true, Owner: "root", ModTime: made},
			"/usr/sbin":                    {Dir: true, Owner: "root", ModTime: made},
			"/var/tmp":                     {Dir: true, Owner: "root", ModTime: made},
			"/var/lib/t3-serve/t3.db":      {Size: 912 * mib, Owner: "t3", ModTime: made},
			"/var/cache/apt/pkgcache.bin":  {Size: 61 * mib, Owner: "root", ModTime: made},
			"/var/log/dpkg.log":            text("status installed libc6:amd64 2.36-9+deb12u10\n"),
			"/var/log/t3-serve/t3.log":     {Size: 14 * mib, Text: "t3-serve: ready on 127.0.0.1:3000\n", Owner: "t3", ModTime: made},
			journalDir + "/system.journal": {Size: 128 * mib, Owner: "root", ModTime: made},
		},
		Units: []Unit{
			{Name: "systemd-journald.service", Description: "Journal Service", Command: "/lib/systemd/systemd-journald"},
			{Name: "dbus.service", Description: "D-Bus System Message Bus", Command: "/usr/bin/dbus-daemon --system"},
			{Name: "ssh.service", Description: "OpenBSD Secure Shell server", Command: "sshd: /usr/sbin/sshd -D"},
			{Name: "cron.service", Description: "Regular background program processing daemon", Command: "/usr/sbin/cron -f"},
			{Name: "qemu-guest-agent.service", Description: "QEMU Guest Agent", Command: "/usr/sbin/qemu-ga"},
			{Name: "containerd.service", Description: "containerd container runtime", Command: "/usr/bin/containerd", Needs: 64 * mib},
			{Name: "t3-serve.service", Description: "T3 development server", Command: "/usr/bin/t3-serve --config /etc/t3-serve/config.toml", Needs: 64 * mib},
		},
	}
}

// fill leaves no byte free in /var: a trace log that nobody switched off, and a journal full of complaints about it.
func fill(d *Disk) {
	now := time.Now()
	const cfg = "listen = \"127.0.0.1:3000\"\ndata = \"/var/lib/t3-serve\"\ntrace = true   # to be switched off again\n"
	d.Files["/etc/t3-serve/config.toml"] = &File{Size: int64(len(cfg)), Text: cfg, Owner: "root", ModTime: now.Add(-31 * time.Hour)}
	for i := range 24 {
		p := fmt.Sprintf("%s/system@0005f9b2c1d4%04x.journal", journalDir, 0xe100+i*7)
		d.Files[p] = &File{Size: 128 * mib, Owner: "root", ModTime: now.Add(-time.Duration(31-i) * time.Hour)}
	}
	d.Files[traceLog] = &File{
		Text:  "TRACE t3_serve::sync: poll fd=41 ready=0\nTRACE t3_serve::sync: poll fd=41 ready=0\nTRACE t3_serve::sync: write failed: No space left on device (os error 28)\n",
		Owner: "t3", ModTime: now.Add(-4 * time.Minute), BootRemoves: true,
	}
	d.Files[traceLog].Size = d.free("/var")
}
