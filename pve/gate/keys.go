package gate

import (
	"context"
	"encoding/base64"
	"strings"
	"time"

	"bgbot/pve/gate/evidence"
	"bgbot/pve/qmp"
)

const keysLimit = time.Second

// keyFiles are where OpenSSH has the public halves of its host keys (sshd_config(5), HostKey).
var keyFiles = []string{
	"/etc/ssh/ssh_host_ed25519_key.pub", "/etc/ssh/ssh_host_ecdsa_key.pub", "/etc/ssh/ssh_host_rsa_key.pub",
}

// hostKeys reads the guest's SSH host keys through its agent: a way that nobody on the network can stand in, so that the
// bot can tell a VM that was rebuilt from one that somebody impersonates. They are read of a healthy guest alone: on a
// disk that hangs the agent itself would hang.
func (g *gate) hostKeys(ctx context.Context, v evidence.Verdict) (keys []string) {
	if v.Rule != "healthy" && v.Rule != "idle" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, keysLimit)
	defer cancel()
	a, err := qmp.DialAgent(ctx, g.qemuFile("qga"))
	if err != nil {
		return nil
	}
	defer func() { _ = a.Close() }()
	for _, path := range keyFiles {
		const most = 4 << 10 // an RSA key of 16384 bits has 2.8 kB
		text, err := a.ReadFile(ctx, path, most)
		if err != nil {
			continue // not every guest has every type, and some agents may not read files
		}
		words := strings.Fields(string(text))
		if len(words) < 2 || !strings.HasPrefix(words[0], "ssh-") && !strings.HasPrefix(words[0], "ecdsa-") {
			continue
		}
		if _, err := base64.StdEncoding.DecodeString(words[1]); err == nil {
			keys = append(keys, words[0]+" "+words[1])
		}
	}
	return keys
}
